"""Decoder-only language models (Llama, Qwen, GPT-2, ...) behind the `LanguageModel` protocol."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from genrail.errors import QueryError, SettingsError
from genrail.models.beam_rows import RowsState, select_rows, step_rows
from genrail.models.checkpoint_model import CheckpointModel, tail_log_probabilities, to_numpy
from genrail.models.token_tree import TokenTree

__all__ = ["CausalModel", "TreeState"]

Int = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

TAIL_LOGITS_BYTES = 256 * 2**20  # logits of one call; 440 tokens of a vocabulary of 152,000
MOST_TOKENS = 1024  # tokens of one call with shared attention: its mask grows with their square


@dataclass(frozen=True)
class TreeState:
    """Say where each row stands: in which tree, for which of its prompts, at which node. Shapes (rows,)."""

    trees: tuple[TokenTree, ...]
    tree: Int
    prompt: Int
    node: Int


class CausalModel(CheckpointModel):
    """Continue a prompt with an identifier.

    Each prompt is read once, alone. All its beams then share the prompt's keys and values: by tree attention where the
    architecture allows it (full attention in every layer, checked by a trial when the model is loaded), else with a
    cache row for each beam. No setting of the checkpoint's generation configuration is applied.

    Args:
        model: A transformers causal language model.
        tokenizer: Its tokenizer object.
        name: For reports.
        attention: `shared`: tree attention; `rows`: one cache row per beam; `auto`: shared where the trial agrees.
        prompts_together: Prompts whose beams run in one call of the model. Default: 1 on a CPU, so that no query can
            move another's numbers by a rounding; 16 on a GPU, for throughput.

    Raises:
        SettingsError: attention="shared" for a model that cannot.

    Source: tree attention as in Miao et al. 2024, SpecInfer; here for beams rather than for speculation.
    """

    family = "causal"

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        name: str = "",
        attention: Literal["auto", "shared", "rows"] = "auto",
        prompts_together: int | None = None,
    ) -> None:
        super().__init__(model, tokenizer, name)
        if attention not in ("auto", "shared", "rows"):
            raise SettingsError(f"attention is {attention!r}; give 'auto', 'shared' or 'rows'")
        self.prompts_together = prompts_together or (1 if self.device.type == "cpu" else 16)
        self._keeps_last = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._prefix: tuple[tuple[int, ...], Any] | None = None
        self.attention: Literal["shared", "rows"] = "rows"
        if attention != "rows" and _attends_to_everything(model.config) and self._trial():
            self.attention = "shared"
        if attention == "shared" and self.attention != "shared":
            raise SettingsError(f"{self.name} cannot share attention among beams; use attention='rows'")

    def prefill(self, contexts: Sequence[Sequence[int]]) -> tuple[TreeState | RowsState, Float32]:
        """Read each prompt, a list of token ids, once.

        Raises:
            QueryError: A prompt is empty, or longer than the model's context; nothing is ever cut.
        """
        self._check_prompts(contexts)
        read = [self._read(context) for context in contexts]
        logits = (
            np.concatenate([to_numpy(row) for _, row in read]) if read else np.zeros((0, self.vocab_size), np.float32)
        )
        rows = np.arange(len(contexts))
        if self.attention == "rows":
            caches = tuple(cache for cache, _ in read)
            return RowsState((None,) * len(read), caches, rows, np.zeros_like(rows)), logits
        pairs = [[(layer.keys, layer.values) for layer in cache.layers] for cache, _ in read]
        size = self.prompts_together
        trees = tuple(TokenTree(self.model, pairs[first : first + size]) for first in range(0, len(pairs), size))
        return TreeState(trees, rows // size, rows % size, np.full(len(rows), -1)), logits

    def step(self, state: TreeState | RowsState, parents: Int, tokens: Int) -> tuple[TreeState | RowsState, Float32]:
        """Append one token to each row; older states stay usable.

        Raises:
            QueryError: Prompt and answer together are longer than the model's context.
        """
        after, logits, _ = self.step_tails(state, parents, tokens, [np.zeros(0, dtype=np.int64)] * len(parents))
        return after, logits

    @property
    def joins_states(self) -> bool:
        """Tell whether `join` can put rows of different length into one state: with shared attention."""
        return self.attention == "shared"

    @torch.inference_mode()
    def step_tails(
        self, state: TreeState | RowsState, parents: Int, tokens: Int, tails: Sequence[Int]
    ) -> tuple[TreeState | RowsState, Float32, list[Float64]]:
        """Append one token to each row, and score the tail behind it; state and logits are of the open rows alone.

        With shared attention, open rows and tails are one call of the model for each group of prompts.
        """
        most_tokens = max(1, TAIL_LOGITS_BYTES // (4 * self.vocab_size))
        if isinstance(state, RowsState):
            return step_rows(self._forward_rows, state, parents, tokens, tails, most_tokens)
        return self._step_tree(state, parents, tokens, tails, min(most_tokens, MOST_TOKENS))

    def join(self, states: Sequence[TreeState]) -> tuple[TreeState, list[int]]:
        """Put the rows of several states of one prefill into one; give it, and the row at which each of them begins.

        Only with shared attention: rows of different length can then run in one call of the model.
        """
        first = np.cumsum([0, *(len(state.node) for state in states)])[:-1].tolist()
        tree, prompt, node = (
            np.concatenate([getattr(state, name) for state in states]) for name in ("tree", "prompt", "node")
        )
        return TreeState(states[0].trees, tree, prompt, node), first

    def remember_prefix(self, tokens: Sequence[int]) -> None:
        """Keep the keys and values of a beginning that all prompts share, so that they are read once and not each time.

        Prompts that begin otherwise are read whole as before. An empty list forgets.

        Args:
            tokens: Such as `Prompts.shared_prefix`.
        """
        self._prefix = None
        if len(tokens):
            self._check_prompts([tokens])
            self._prefix = (tuple(tokens), self._read(tokens)[0])

    def describe(self) -> dict[str, Any]:
        """Give name, parameters and settings."""
        return {
            **super().describe(),
            "family": self.family,
            "attention": self.attention,
            "prompts_together": self.prompts_together,
        }

    @torch.inference_mode()
    def _read(self, context: Sequence[int]) -> tuple[Any, torch.Tensor]:
        """Run the model over one prompt; give its cache and the logits of the first token, (1, V)."""
        ids, cache = list(context), None
        if (
            self._prefix is not None
            and len(ids) > len(self._prefix[0])
            and tuple(ids[: len(self._prefix[0])]) == self._prefix[0]
        ):
            cache = select_rows(self._prefix[1], torch.zeros(1, dtype=torch.int64))
            ids = ids[len(self._prefix[0]) :]
        last = {"logits_to_keep": 1} if self._keeps_last else {}
        output = self.model(
            input_ids=torch.tensor([ids], device=self.device), past_key_values=cache, use_cache=True, **last
        )
        return output.past_key_values, output.logits[:, -1]

    def _forward_rows(self, _: None, ids: torch.Tensor, cache: Any) -> tuple[torch.Tensor, Any]:
        self._check_length(cache.get_seq_length() + ids.shape[1])
        output = self.model(input_ids=ids.to(self.device), past_key_values=cache, use_cache=True)
        return output.logits, output.past_key_values

    def _check_length(self, length: int) -> None:
        if self.context_size is not None and length > self.context_size:
            raise QueryError(
                f"the prompt and an identifier have {length} tokens together but {self.name} reads "
                f"{self.context_size}; shorten the query or the history"
            )

    def _step_tree(
        self, state: TreeState, parents: Int, tokens: Int, tails: Sequence[Int], most_tokens: int
    ) -> tuple[TreeState, Float32, list[Float64]]:
        tree, prompt, node = state.tree[parents], state.prompt[parents], state.node[parents]
        new_node = np.zeros(len(parents), dtype=np.int64)
        scores: list[Float64] = [np.zeros(0) for _ in tails]
        is_open = np.array([not len(tail) for tail in tails], dtype=np.bool_)
        logits: Float32 | None = None
        place = np.cumsum(is_open) - 1  # row of the logits
        for number in np.unique(tree).tolist():
            for rows in _portions(np.flatnonzero(tree == number), tails, most_tokens):
                runs = [[int(tokens[row]), *tails[row][:-1].tolist()] for row in rows]
                open_here = is_open[rows]
                grown = _Growth(state.trees[number], prompt[rows], node[rows], runs, open_here, self._check_length)
                for row, score in zip(rows[~open_here], grown.tail_scores(tails, rows, ~open_here), strict=True):
                    scores[row] = score
                new_node[rows] = grown.last_nodes  # of tails: never used
                table = grown.last_logits(open_here)
                if len(table) == int(is_open.sum()):
                    logits = table  # the usual case: all open rows in one call, nothing to copy
                    continue
                if logits is None:
                    logits = np.empty((int(is_open.sum()), self.vocab_size), dtype=np.float32)
                logits[place[rows[open_here]]] = table
        if logits is None:
            logits = np.zeros((0, self.vocab_size), dtype=np.float32)
        return TreeState(state.trees, tree[is_open], prompt[is_open], new_node[is_open]), logits, scores

    def _trial(self) -> bool:
        """Compare tree attention with plain reading on a few tokens."""
        rng = np.random.default_rng(0)
        prompt, (first, second, third) = (
            rng.integers(0, self.vocab_size, 5).tolist(),
            rng.integers(0, self.vocab_size, 3),
        )
        try:
            pairs = [(layer.keys, layer.values) for layer in self._read(prompt)[0].layers]
            grown = TokenTree(self.model, [pairs]).grow([[-1, -1, 0]], [[first, second, third]], keep=0)[0]
            plain = [self._read([*prompt, *path])[1] for path in ([first], [second], [first, third])]
        except (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError):
            return False
        expected = torch.cat(plain).float()
        tolerance = 1e-3 if self.model.dtype == torch.float32 else 5e-2
        return bool(((grown.float() - expected).abs().max() <= tolerance * (1 + expected.abs().max())).item())


class _Growth:
    """Write runs of tokens into one tree, and find each run's nodes and logits again."""

    def __init__(
        self,
        tree: TokenTree,
        prompt: Int,
        node: Int,
        runs: list[list[int]],
        is_open: npt.NDArray[np.bool_],
        check: Callable[[int], None],
    ) -> None:
        prompts = len(tree.lengths)
        nodes: list[list[int]] = [[] for _ in range(prompts)]
        tokens: list[list[int]] = [[] for _ in range(prompts)]
        first = tree.size
        self._prompt = prompt
        self._start = np.zeros(len(runs), dtype=np.int64)
        self._lengths = np.array([len(run) for run in runs])
        for row in np.argsort(~is_open, kind="stable").tolist():  # open runs first: they stay, tails are forgotten
            at, run = int(prompt[row]), runs[row]
            here = len(nodes[at])
            self._start[row] = here
            nodes[at] += [int(node[row]), *range(first + here, first + here + len(run) - 1)]
            tokens[at] += run
            check(int(tree.lengths[at]) + tree.depth(at, int(node[row])) + len(run))
        keep = int(np.bincount(prompt[is_open], minlength=1).max())
        self._logits = tree.grow(nodes, tokens, keep)
        self._last = self._start + self._lengths - 1
        self.last_nodes = first + self._last

    def last_logits(self, chosen: npt.NDArray[np.bool_]) -> Float32:
        """Give the logits behind the chosen runs, (chosen, V)."""
        prompt, last = self._prompt[chosen], self._last[chosen]
        width = self._logits.shape[1]
        flat = self._logits.reshape(-1, self._logits.shape[2])
        rows = prompt * width + last
        if np.array_equal(rows, np.arange(len(flat))):
            return to_numpy(flat)
        return to_numpy(flat[torch.from_numpy(rows).to(flat.device)])

    def tail_scores(self, tails: Sequence[Int], rows: Int, chosen: npt.NDArray[np.bool_]) -> list[Float64]:
        """Give the log-probabilities of the tails behind the chosen runs."""
        picked = [tails[row] for row in rows[chosen]]
        if not picked:
            return []
        width = self._logits.shape[1]
        start = (self._prompt * width + self._start)[chosen]
        cells = np.concatenate([np.arange(begin, begin + len(tail)) for begin, tail in zip(start, picked, strict=True)])
        flat = self._logits.reshape(-1, self._logits.shape[2])
        targets = torch.from_numpy(np.concatenate(picked)).to(flat.device)
        scores = tail_log_probabilities(flat[torch.from_numpy(cells).to(flat.device)], targets)
        return np.split(scores, np.cumsum([len(tail) for tail in picked])[:-1])


def _portions(rows: Int, tails: Sequence[Int], most_tokens: int) -> list[Int]:
    """Split rows so that each call writes at most `most_tokens` tokens (one row at least)."""
    ends, total = [], 0
    for place, row in enumerate(rows.tolist()):
        length = max(1, len(tails[row]))
        if total and total + length > most_tokens:
            ends.append(place)
            total = 0
        total += length
    return [portion for portion in np.split(rows, ends) if len(portion)]


def _attends_to_everything(config: Any) -> bool:
    """Tell whether every layer sees the whole past; a window, a recurrence or ALiBi cannot be said by our mask."""
    layers = getattr(config, "layer_types", None)
    if layers is not None and any(kind != "full_attention" for kind in layers):
        return False
    if layers is None and getattr(config, "sliding_window", None) is not None:
        return False
    return not getattr(config, "alibi", False)
