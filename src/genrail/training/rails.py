"""What a language model loses on packed examples: over the branchings of the rails, or over its whole vocabulary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from genrail.constraints.compressed import CompressedTrie
from genrail.models.output_layer import OutputLayer
from genrail.models.token_tree import EVERYTHING, SLIDING, Attention
from genrail.training.packing import Pack

__all__ = [
    "Branchings",
    "Candidates",
    "contrastive_losses",
    "grouped_log_sums",
    "hidden_states",
    "token_loss",
]

Int = npt.NDArray[np.int64]


def hidden_states(body: Any, packs: Sequence[Pack], sees: Attention | None = EVERYTHING) -> Tensor:
    """Read packs, each in a call of its own, and give the states behind all of their slots, (slots, width).

    A slot attends to the slots before it in its own sequence (tree attention), so a pack gives what its sequences would
    give one by one. Packs that are plain sequences are read side by side, padded on the right.

    Args:
        body: The model without its output layer.
        packs: What to read.
        sees: What its layers see; None for a model that cannot read tries, which then takes plain sequences only.
    """
    if sees is None or all(pack.chain for pack in packs):
        return _side_by_side(body, packs)
    parts = []
    for pack in packs:
        positions = np.array(pack.depths)
        output = body(
            input_ids=torch.tensor([pack.ids], device=body.device),
            attention_mask=_masks(pack.reach, positions, sees, body),
            position_ids=torch.from_numpy(positions[None]).to(body.device),
            use_cache=False,
        )
        parts.append(output[0][0])
    return torch.cat(parts)


def _side_by_side(body: Any, packs: Sequence[Pack]) -> Tensor:
    """Read plain sequences as rows; what stands on the right is not seen from the left, so padding needs no mask."""
    longest = max(map(len, packs))
    ids = torch.zeros((len(packs), longest), dtype=torch.int64)
    for row, pack in enumerate(packs):
        ids[row, : len(pack)] = torch.tensor(pack.ids)
    output = body(input_ids=ids.to(body.device), use_cache=False)[0]
    return torch.cat([output[row, : len(pack)] for row, pack in enumerate(packs)])


def _masks(reach: npt.NDArray[np.bool_], positions: Int, sees: Attention, body: Any) -> Any:
    """Write 0 where a slot looks, the lowest number elsewhere: (1, 1, slots, slots), for each kind of layer."""
    masks = {}
    for kind in sees.kinds:
        near = reach
        if kind == SLIDING and sees.window is not None:
            near = reach & (positions[:, None] - positions[None, :] < sees.window)
        mask = torch.zeros(near.shape, dtype=body.dtype, device=body.device)
        hidden = torch.from_numpy(~near).to(body.device)
        masks[kind] = mask.masked_fill_(hidden, torch.finfo(body.dtype).min)[None, None]
    return masks if len(masks) > 1 else next(iter(masks.values()))


class Branchings:
    """Compute the log-probabilities of all children of the branchings that some packs decide at.

    Only the output layer's rows of tokens that are allowed somewhere are computed.

    Args:
        hidden: From `hidden_states`.
        packs: The same.
        trie: Whose branchings these are.
        output: The output layer.

    Cost: (decisions, distinct children) logits; the branchings of 6,764 titles have 3,000 different ones.
    """

    def __init__(self, hidden: Tensor, packs: Sequence[Pack], trie: CompressedTrie, output: OutputLayer) -> None:
        self._packs, self._device = packs, hidden.device
        slots, self._nodes, self._shares = _decisions(packs)
        self._counts = trie.first_edge[self._nodes + 1] - trie.first_edge[self._nodes]
        self._owner = np.repeat(np.arange(len(self._nodes)), self._counts)
        self._begin = np.cumsum(self._counts) - self._counts
        self._first = trie.first_edge[self._nodes]
        edges = np.arange(len(self._owner)) - self._begin[self._owner] + self._first[self._owner]
        tokens, column = np.unique(trie.edge_token[edges], return_inverse=True)
        table = output.columns(hidden[self._there(slots)], self._there(tokens))
        rows = self._there(self._owner)
        logits = table[rows, self._there(column)]
        self.log_probabilities = logits - grouped_log_sums(logits, rows, len(self._nodes))[rows]

    def _there(self, numbers: Int) -> Tensor:
        return torch.from_numpy(numbers).to(self._device)

    def loss(self, smoothing: float = 0.0) -> Tensor:
        """Compute the cross-entropy of the right edges over the children, summed over all examples.

        What must follow is certain on the rails and costs nothing; the sum over an identifier's branchings is
        -log p(identifier) as decoding reads it with ``meaning="renormalised"``.

        Args:
            smoothing: Share of the right answer that is spread over all children.
        """
        wanted = np.zeros(len(self._owner), dtype=np.float32)
        for place, share in enumerate(self._shares):
            first = self._begin[place] - self._first[place]
            wanted[[first + edge for edge in share]] = list(share.values())
        if smoothing:
            total = np.add.reduceat(wanted, self._begin)
            spread = smoothing * (total / self._counts)[self._owner].astype(np.float32)
            wanted = (1.0 - smoothing) * wanted + spread
        return -(torch.from_numpy(wanted).to(self._device) * self.log_probabilities).sum()

    def candidates(self) -> Candidates:
        """Compute the log-probabilities of all items that are to be compared, see `Pack.paths`."""
        places, edges, groups, weights = [], [], [], []
        number, decision = 0, 0
        for pack in self._packs:
            known = {key: decision + place for place, key in enumerate(pack.nodes)}
            for paths in pack.paths:
                for weight, path in paths:
                    at = [(known[slot, node], edge) for slot, node, edge in path]
                    places.append([int(self._begin[one] + edge - self._first[one]) for one, edge in at])
                    edges.append([edge for _, edge in at])
                    groups.append(number)
                    weights.append(weight)
                number += 1
            decision += len(pack.nodes)
        steps = max(map(len, places), default=0)
        taken = np.full((len(places), steps), -1, dtype=np.int64)
        index = np.zeros((len(places), steps), dtype=np.int64)
        for row, (found, own) in enumerate(zip(places, edges, strict=True)):
            index[row, : len(found)], taken[row, : len(own)] = found, own
        there = torch.from_numpy(taken >= 0).to(self._device)
        steps_taken = self.log_probabilities[self._there(index)] * there
        return Candidates(steps_taken.cumsum(dim=1), taken, np.array(groups, dtype=np.int64), np.array(weights))


@dataclass(frozen=True, eq=False)
class Candidates:
    """Hold items that are compared with the others of their request.

    Args:
        prefixes: Log-probability, on the rails, of each item's identifier up to each of its branchings; behind the last
            one it stays, (items, branchings).
        edges: Edge taken at each branching, -1 behind the last, (items, branchings).
        groups: Number of the request, (items,).
        weights: What a teacher, or a judge, gives each of them, (items,).
    """

    prefixes: Tensor
    edges: Int
    groups: Int
    weights: npt.NDArray[np.float64]

    @property
    def whole(self) -> Tensor:
        """Give the log-probability of each whole identifier, (items,)."""
        return self.prefixes[:, -1]


def _decisions(packs: Sequence[Pack]) -> tuple[Int, Int, list[dict[int, float]]]:
    """List the decisions of all packs: slot among all slots, node, shares of the edges."""
    slots, nodes, shares, first = [], [], [], 0
    for pack in packs:
        for (slot, node), share in pack.nodes.items():
            slots.append(first + slot)
            nodes.append(node)
            shares.append(share)
        first += len(pack)
    return np.array(slots, dtype=np.int64), np.array(nodes, dtype=np.int64), shares


def grouped_log_sums(logits: Tensor, rows: Tensor, count: int) -> Tensor:
    """Sum exponentials within each of `count` groups, whose numbers are `rows`; their logarithms, (count,)."""
    top = torch.full((count,), -torch.inf, dtype=logits.dtype, device=logits.device)
    top = top.scatter_reduce(0, rows, logits.detach(), "amax")
    sums = torch.zeros(count, dtype=logits.dtype, device=logits.device).index_add(0, rows, (logits - top[rows]).exp())
    return top + sums.log()


def token_loss(
    hidden: Tensor,
    packs: Sequence[Pack],
    output: OutputLayer,
    smoothing: float = 0.0,
    allowed: Sequence[Mapping[int, Int]] | None = None,
) -> Tensor:
    """Compute the cross-entropy of the right tokens over the whole vocabulary, summed over all examples.

    Args:
        hidden: From `hidden_states`.
        packs: The same.
        output: The output layer.
        smoothing: Share of the right answer that is spread over what was possible.
        allowed: Of each pack, the tokens that may follow a slot, for every slot with a right one: the probability is
            then shared out among them.
    """
    slots: list[int] = []
    tokens: list[int] = []
    shares: list[float] = []
    first = 0
    for pack in packs:
        for slot, wanted in pack.tokens.items():
            slots += [first + slot] * len(wanted)
            tokens += wanted
            shares += wanted.values()
        first += len(pack)
    different, rows = np.unique(np.array(slots, dtype=np.int64), return_inverse=True)
    logits = output.logits(hidden[torch.from_numpy(different).to(hidden.device)]).float()
    if allowed is not None:
        logits = logits.masked_fill(_forbidden(packs, allowed, logits.shape).to(hidden.device), -torch.inf)
    log_probabilities = logits.log_softmax(dim=-1)
    at = torch.from_numpy(rows).to(hidden.device), torch.tensor(tokens, device=hidden.device)
    share = torch.tensor(shares, device=hidden.device)
    right = -(share * log_probabilities[at]).sum()
    if not smoothing:
        return right
    spread = -(torch.zeros(len(different), device=hidden.device).index_add(0, at[0], share))
    possible = log_probabilities > -torch.inf
    mean = torch.where(possible, log_probabilities, 0.0).sum(dim=-1) / possible.sum(dim=-1)
    return (1.0 - smoothing) * right + smoothing * (spread * mean).sum()


def _forbidden(packs: Sequence[Pack], allowed: Sequence[Mapping[int, Int]], shape: Sequence[int]) -> Tensor:
    """Mark what may not follow each slot with a right token, (slots, vocabulary); slots in the order of their packs."""
    mask, row = torch.ones(tuple(shape), dtype=torch.bool), 0
    for pack, tokens in zip(packs, allowed, strict=True):
        for slot in sorted(pack.tokens):
            mask[row, torch.from_numpy(tokens[slot])] = False
            row += 1
    return mask


def contrastive_losses(hidden: Tensor, packs: Sequence[Pack], temperature: float) -> tuple[Tensor, Tensor]:
    """Compute CALRec's two contrastive terms, each summed over all examples.

    Each is a cross-entropy of the right target among the targets of all examples, over cosines of means of hidden
    states: of a target behind its request with the targets by themselves, and of a request with the targets by
    themselves. The same target of another example is no wrong answer.

    Args:
        hidden: From `hidden_states`.
        packs: The same, laid out with `contrast`.
        temperature: Cosines are divided by it.

    Source: Li et al. 2024, CALRec: Contrastive Alignment of Generative LLMs for Sequential Recommendation.
    """
    first, rows = 0, []
    means: list[list[Tensor]] = [[], [], []]
    for pack in packs:
        for *slots, row in pack.spans:
            rows.append(row)
            for side, own in zip(means, slots, strict=True):
                side.append(hidden[torch.tensor(own, device=hidden.device) + first].float().mean(dim=0))
        first += len(pack)
    user, behind, alone = (torch.nn.functional.normalize(torch.stack(side), dim=1) for side in means)
    item = torch.tensor(rows, device=hidden.device)
    same = (item[:, None] == item[None, :]) & ~torch.eye(len(rows), dtype=torch.bool, device=hidden.device)
    right = torch.arange(len(rows), device=hidden.device)

    def term(anchors: Tensor) -> Tensor:
        logits = (anchors @ alone.T / temperature).masked_fill(same, -torch.inf)
        return torch.nn.functional.cross_entropy(logits, right, reduction="sum")

    return term(behind), term(user)
