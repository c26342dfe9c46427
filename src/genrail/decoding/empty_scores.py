"""What a model finds probable whatever is asked: logits of all branchings behind an empty request, computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from genrail.constraints.compressed import ROOT, CompressedTrie
from genrail.decoding.rails import AnyRunModel, Prior, branch_log_probabilities
from genrail.errors import DamagedError, StateError

__all__ = ["EmptyScores"]

Int = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]

TOKENS_TOGETHER = 768  # read below a few first tokens: one call holds about so many
FACTOR = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, eq=False)
class EmptyScores:
    """Keep the logit of every edge of a compressed trie behind an empty request.

    The logits of a prefix do not depend on the other items, so items that are added or removed leave them as they are:
    `extended` reads only branchings that are new. The softmax over an edge's siblings is taken when it is asked for.

    Args:
        keys: Of prefix and token, ascending, uint64. Two of a million edges collide with probability 3e-8.
        logits: float32, as many.

    >>> from genrail.constraints import Trie
    >>> from genrail.constraints.compressed import compressed
    >>> from genrail.models.tiny_lm import UniformModel
    >>> trie = compressed(Trie.from_sequences([[1, 2], [1, 3], [2, 2]], vocab_size=4))
    >>> EmptyScores().extended(UniformModel(4), [0], trie).prior(trie).identifiers.round(3).tolist()
    [-1.386, -1.386, -0.693]
    """

    keys: Keys = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))
    logits: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, dtype=np.float32))

    def __len__(self) -> int:
        return len(self.keys)

    def covers(self, trie: CompressedTrie) -> bool:
        """Tell whether the logits of all edges are known."""
        return bool(self._places(trie)[1].all())

    def extended(
        self,
        model: AnyRunModel,
        context: object,
        trie: CompressedTrie,
        progress: Callable[[int, int], None] | None = None,
    ) -> EmptyScores:
        """Read what is not known yet.

        Args:
            model: The model whose logits these are.
            context: Its empty request.
            trie: The identifiers.
            progress: Called with (branchings done, branchings to read).

        Cost: one pass over the tokens before the last branching of each identifier, in calls of some hundred tokens,
        and one row of the output layer for each edge: 20 to 30 seconds of a core for 6,764 titles and 100 M weights.
        """
        keys = _edge_keys(trie)
        unknown = ~self._places(trie)[1]
        if not unknown.any():
            return self
        wanted = np.zeros(len(trie.depth), dtype=np.bool_)
        wanted[trie.edge_parent[unknown]] = True
        found = _read_branchings(model, context, trie, wanted, progress or _silent)
        fresh = wanted[trie.edge_parent] & unknown
        all_keys = np.concatenate([self.keys, keys[fresh]])
        order = np.argsort(all_keys, kind="stable")
        return EmptyScores(all_keys[order], np.concatenate([self.logits, found[fresh]])[order])

    def prior(self, trie: CompressedTrie, weight: float = 1.0) -> Prior:
        """Give the log-probabilities of all edges on the rails.

        Raises:
            StateError: Some are not known; extend the scores first.
        """
        places, known = self._places(trie)
        if not known.all():
            raise StateError(f"{int((~known).sum())} edges have no empty score yet; call `extended` with this trie")
        if not len(places):
            return Prior(trie, np.zeros(0), weight)
        return Prior(trie, branch_log_probabilities(self.logits[places], trie.first_edge[:-1]), weight)

    def save(self, path: Path) -> None:
        """Write one file of arrays."""
        with path.open("wb") as file:
            np.savez(file, keys=self.keys, logits=self.logits)

    @classmethod
    def load(cls, path: Path) -> EmptyScores:
        """Read what `save` wrote.

        Raises:
            DamagedError: The file is not whole.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                found = cls(arrays["keys"], arrays["logits"])
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise DamagedError(f"{path} is not readable ({error}); restore the folder or build the engine") from error
        if found.keys.shape != found.logits.shape:
            raise DamagedError(
                f"{path} holds {len(found.keys)} keys and {len(found.logits)} logits; restore the folder"
            )
        return found

    def _places(self, trie: CompressedTrie) -> tuple[Int, npt.NDArray[np.bool_]]:
        """Find each edge of a trie: its place, and whether it is there."""
        keys = _edge_keys(trie)
        if not len(self.keys):
            return np.zeros(len(keys), dtype=np.int64), np.zeros(len(keys), dtype=np.bool_)
        places = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return places, self.keys[places] == keys


def _silent(done: int, total: int) -> None:
    pass


def _mixed(values: Keys) -> Keys:
    """Scatter numbers over 64 bits (the finaliser of SplitMix64, Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _edge_keys(trie: CompressedTrie) -> Keys:
    """Hash prefix and token of each edge."""
    prefixes = np.zeros(len(trie.depth), dtype=np.uint64)
    begin = trie.offsets[trie.low]
    for depth in range(int(trie.depth.max(initial=0))):
        longer = trie.depth > depth
        token = trie.tokens[begin[longer] + depth].astype(np.uint64)
        prefixes[longer] = _mixed(prefixes[longer] * FACTOR + token + np.uint64(1))
    return _mixed(prefixes[trie.edge_parent] * FACTOR + trie.edge_token.astype(np.uint64) + np.uint64(1)) ^ FACTOR


def _read_branchings(
    model: AnyRunModel,
    context: object,
    trie: CompressedTrie,
    wanted: npt.NDArray[np.bool_],
    progress: Callable[[int, int], None],
) -> npt.NDArray[np.float32]:
    """Compute the logits of all edges of the wanted nodes, (edges,)."""
    logits = np.zeros(len(trie.edge_token), dtype=np.float32)
    needed = wanted.copy()
    parents = np.full(len(trie.depth), -1)
    inner = np.flatnonzero(trie.edge_node >= 0)
    parents[trie.edge_node[inner]] = trie.edge_parent[inner]
    for node in range(len(trie.depth) - 1, ROOT, -1):  # what lies above a wanted node has to be read as well
        needed[parents[node]] |= needed[node]
    total, done = int(needed.sum()), 0
    for edges in _groups(trie, needed):
        state, hidden = model.open_runs([context])
        if len(trie.beginning):
            state, hidden = model.read_runs(state, np.zeros(1, dtype=np.int64), [trie.beginning])
            hidden_row = len(trie.beginning) - 1
        else:
            hidden_row = 0
        if not done:
            _write(model, hidden, np.array([hidden_row]), np.array([ROOT]), trie, logits)
            done = 1
        rows = np.zeros(len(edges), dtype=np.int64)
        while len(edges):
            runs = [trie.run(int(edge)) for edge in edges]
            state, hidden = model.read_runs(state, rows, runs)
            nodes = trie.edge_node[edges]
            _write(model, hidden, np.cumsum([len(run) for run in runs]) - 1, nodes, trie, logits)
            done += len(nodes)
            progress(min(done, total), total)
            edges, rows = _below(trie, nodes, needed)
    return logits


def _below(trie: CompressedTrie, nodes: Int, needed: npt.NDArray[np.bool_]) -> tuple[Int, Int]:
    """List the edges that go on from some nodes to needed ones, and the place of each one's node."""
    counts = trie.first_edge[nodes + 1] - trie.first_edge[nodes]
    rows = np.repeat(np.arange(len(nodes)), counts)
    starts = np.cumsum(counts) - counts
    edges = np.arange(int(counts.sum())) - starts[rows] + trie.first_edge[nodes][rows]
    goes_on = (trie.edge_node[edges] >= 0) & needed[np.maximum(trie.edge_node[edges], 0)]
    return edges[goes_on], rows[goes_on]


def _groups(trie: CompressedTrie, needed: npt.NDArray[np.bool_]) -> Sequence[Int]:
    """Part the first edges so that about `TOKENS_TOGETHER` tokens are read below each group; one empty group at least.

    A group has a cache of its own, so that nothing attends over what was read for the others.
    """
    if not len(trie.depth):
        return []
    edges, _ = _below(trie, np.array([ROOT]), needed)
    inner = np.flatnonzero(trie.edge_node >= 0)
    inner = inner[needed[trie.edge_node[inner]]]
    tokens = np.zeros(len(trie) + 1)
    np.add.at(tokens, trie.edge_low[inner] + 1, trie.edge_end[inner] - trie.depth[trie.edge_parent[inner]])
    before = np.cumsum(tokens)
    size = before[trie.edge_high[edges]] - before[trie.edge_low[edges]]
    number = (np.cumsum(size) / TOKENS_TOGETHER).astype(np.int64)
    parts: list[Int] = np.split(edges, np.flatnonzero(np.diff(number)) + 1)
    return parts


def _write(
    model: AnyRunModel, hidden: object, rows: Int, nodes: Int, trie: CompressedTrie, logits: npt.NDArray[np.float32]
) -> None:
    """Compute the logits of the edges of some nodes, whose hidden states stand at `rows`."""
    counts = trie.first_edge[nodes + 1] - trie.first_edge[nodes]
    owner = np.repeat(np.arange(len(nodes)), counts)
    edges = np.arange(len(owner)) - (np.cumsum(counts) - counts)[owner] + trie.first_edge[nodes][owner]
    logits[edges] = model.logits_of(hidden, rows[owner], trie.edge_token[edges])
