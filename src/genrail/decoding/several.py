"""Search where an item has several identifiers: many sequences, one item."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from genrail.constraints.segments import LiveSubset, LiveTrie
from genrail.constraints.trie import Trie
from genrail.decoding.answers import Decoded
from genrail.decoding.scoring import score_sequences
from genrail.errors import ShapeError, StateError
from genrail.models.language_model import LanguageModel

__all__ = ["Combine", "SeveralIndex", "SeveralSubset", "search_several"]

Int = npt.NDArray[np.int64]
Combine = Literal["best", "sum"]
Search = Callable[[Sequence[LiveSubset | None], int], list[Decoded]]


@dataclass(frozen=True, eq=False)
class SeveralSubset:
    """Allow some items, each with all of its identifiers; combine with ``&``, ``|`` and ``~``.

    Args:
        identifiers: The identifiers of the allowed items.
        first: The first identifier of every item of the index; as many as there are items.
    """

    identifiers: LiveSubset
    first: LiveSubset

    def __len__(self) -> int:
        return self._items

    @cached_property
    def _items(self) -> int:
        return len(self.identifiers & self.first)

    def __and__(self, other: Any) -> SeveralSubset:
        return SeveralSubset(self.identifiers & other.identifiers, self.first)

    def __or__(self, other: Any) -> SeveralSubset:
        return SeveralSubset(self.identifiers | other.identifiers, self.first)

    def __invert__(self) -> SeveralSubset:
        return SeveralSubset(~self.identifiers, self.first)

    @property
    def nbytes(self) -> int:
        """Count the bytes held, for caches with a bound."""
        return self.identifiers.nbytes


@dataclass(frozen=True, eq=False)
class SeveralIndex:
    """Keep a trie over identifiers, and know which item each of them names.

    Items are catalogue rows, as in every index; inside, the trie numbers identifiers. A value, like `LiveTrie`.

    Args:
        trie: Its rows are identifiers.
        owners: Catalogue row of each identifier, rising, int64, shape (identifiers,).

    Raises:
        ShapeError: Not one owner for each identifier.

    >>> trie = LiveTrie(Trie.from_sequences([[5], [6, 7], [8]], vocab_size=9, end_token=0))
    >>> index = SeveralIndex(trie, np.array([0, 0, 1]))
    >>> len(index), len(index.without([0])), len(index.remove([1]))
    (2, 1, 1)
    """

    trie: LiveTrie
    owners: Int

    def __post_init__(self) -> None:
        if len(self.owners) != self.trie.row_count or bool(np.any(np.diff(self.owners) < 0)):
            raise ShapeError(f"{len(self.owners)} owners for {self.trie.row_count} identifiers; give one each, rising")

    def __len__(self) -> int:
        return len(self.first)

    @property
    def vocab_size(self) -> int:
        """Give one more than the largest token that may occur."""
        return self.trie.vocab_size

    @property
    def end_token(self) -> int | None:
        """Give the token that ends each identifier."""
        return self.trie.end_token

    @property
    def old(self) -> Trie:
        """Give the merged segment of the trie."""
        return self.trie.old

    @property
    def new(self) -> Trie:
        """Give the segment of what was added since."""
        return self.trie.new

    @cached_property
    def most(self) -> int:
        """Count the identifiers of the item that has the most."""
        return int(np.bincount(self.owners).max(initial=0))

    @cached_property
    def first(self) -> LiveSubset:
        """Hold the first identifier of each live item."""
        return self.trie.subset(np.diff(self.owners, prepend=-1) > 0)

    def identifiers_of(self, rows: npt.ArrayLike) -> Int:
        """List the numbers of all identifiers of some catalogue rows, in their order."""
        wanted = np.asarray(rows, dtype=np.int64).reshape(-1)
        begin, end = (np.searchsorted(self.owners, wanted, side=side) for side in ("left", "right"))
        return np.concatenate([np.zeros(0, dtype=np.int64), *map(np.arange, begin, end)])

    def subset(self, allowed: npt.NDArray[np.bool_]) -> SeveralSubset:
        """Compile a mask over catalogue rows into a subset."""
        mask = np.asarray(allowed, dtype=np.bool_)
        if mask.shape != (self._rows,):
            raise ShapeError(f"the mask has shape {mask.shape} but the index numbers {self._rows} rows")
        return SeveralSubset(self.trie.subset(mask[self.owners]), self.first)

    def only(self, rows: npt.ArrayLike) -> SeveralSubset:
        """Allow just these rows."""
        return SeveralSubset(self.trie.only(self.identifiers_of(rows)), self.first)

    def without(self, rows: npt.ArrayLike, subset: Any = None) -> SeveralSubset:
        """Allow all but these rows, within `subset` if given."""
        inner = None if subset is None else self.inner(subset)
        return SeveralSubset(self.trie.without(self.identifiers_of(rows), inner), self.first)

    def add(self, lists: Sequence[Sequence[Sequence[int]]]) -> SeveralIndex:
        """Return the index with further items, numbered from the last on; each brings the list of its identifiers."""
        owners = np.repeat(self._rows + np.arange(len(lists)), [len(row) for row in lists])
        grown = self.trie.add([one for row in lists for one in row])
        return SeveralIndex(grown, np.concatenate([self.owners, owners]))

    def remove(self, rows: npt.ArrayLike) -> SeveralIndex:
        """Return the index without some catalogue rows."""
        return SeveralIndex(self.trie.remove(self.identifiers_of(rows)), self.owners)

    def compact(self) -> Trie:
        """Merge the segments of the trie; see `rebuilt`."""
        return self.trie.compact()

    def rebuilt(self, compacted: Trie) -> SeveralIndex:
        """Return this index over its own trie after `compact`."""
        return SeveralIndex(LiveTrie(compacted), self.owners)

    def save(self, folder: str | Path) -> None:
        """Write the trie; the owners are saved with the identifiers."""
        self.trie.save(folder)

    @staticmethod
    def inner(subset: Any) -> LiveSubset:
        """Give the subset of identifiers.

        Raises:
            StateError: The subset was made by another kind of index.
        """
        if not isinstance(subset, SeveralSubset):
            raise StateError("this subset belongs to another index; make both with the index that is asked")
        return subset.identifiers

    @property
    def _rows(self) -> int:
        return int(self.owners[-1]) + 1 if len(self.owners) else 0


def search_several(
    search: Search,
    model: LanguageModel[Any, Any],
    contexts: Sequence[Any],
    index: SeveralIndex,
    subsets: Sequence[Any],
    k: int,
    combine: Combine = "best",
) -> list[Decoded]:
    """Find k items where each has several identifiers.

    Args:
        search: Finds identifiers, given (subsets of them, how many).
        model: The model that `search` asks; it scores the other identifiers for `sum`.
        contexts: One per query.
        index: The identifiers and their items.
        subsets: Items allowed to each query, None for all.
        k: Items wanted.
        combine: `best`: an item counts as its most probable identifier; the answer is that of a search over items.
            `sum`: as all of its identifiers together, log(sum of probabilities). The items are those that have an
            identifier among the best 2 k found, each then scored with all of its identifiers.

    Returns:
        One answer per query; `tokens` are those of each item's best identifier.

    Cost: of a search for k identifiers, and again for twice as many while they name fewer than k items.

    Source: Few-Shot GR, as `genrail.identifiers.several`; the sum is that of SEAL's document scores in spirit.
    """
    inner = [None if subset is None else index.inner(subset) for subset in subsets]
    wanted = [min(k, len(index) if subset is None else len(subset)) for subset in subsets]
    ask = min(k if combine == "best" else 2 * k, k * index.most)
    while True:
        found = search(inner, ask)
        enough = all(_items(answer, index) >= count for answer, count in zip(found, wanted, strict=True))
        if enough or ask >= k * index.most:
            break
        ask = min(2 * ask, k * index.most)
    answers = []
    for context, answer, subset in zip(contexts, found, subsets, strict=True):
        allowed = len(index) if subset is None else len(subset)
        grouped = _best(answer, index) if combine == "best" else _sum(answer, index, model, context)
        answers.append(replace(_cut(grouped, k), exhausted=allowed < k))
    return answers


def _items(answer: Decoded, index: SeveralIndex) -> int:
    return len(np.unique(index.owners[answer.rows]))


def _chosen(answer: Decoded, places: Int) -> Decoded:
    return replace(
        answer,
        rows=answer.rows[places],
        log_probabilities=answer.log_probabilities[places],
        tokens=[answer.tokens[place] for place in places],
        scores=answer.scores[places],
    )


def _best(answer: Decoded, index: SeveralIndex) -> Decoded:
    """Keep the first, that is the best, identifier of each item."""
    owners = index.owners[answer.rows]
    _, first = np.unique(owners, return_index=True)
    places = np.sort(first)
    return replace(_chosen(answer, places), rows=owners[places])


def _sum(answer: Decoded, index: SeveralIndex, model: LanguageModel[Any, Any], context: Any) -> Decoded:
    """Score all identifiers of the items found, and add up their probabilities."""
    best = _best(answer, index)
    if not len(best):
        return best
    numbers = [index.identifiers_of([row]) for row in best.rows]
    lists = [[tuple(index.trie.sequence(int(one)).tolist()) for one in row] for row in numbers]
    flat = score_sequences(model, context, [one for row in lists for one in row])
    parts = np.split(flat, np.cumsum([len(row) for row in lists])[:-1])
    scores = np.array([np.logaddexp.reduce(part) for part in parts])
    tokens = [row[int(part.argmax())] for row, part in zip(lists, parts, strict=True)]
    order = np.argsort(-scores, kind="stable")
    summed = replace(best, tokens=tokens, log_probabilities=scores, scores=scores, bound=np.inf)
    return _chosen(summed, order)


def _cut(answer: Decoded, k: int) -> Decoded:
    return _chosen(answer, np.arange(min(k, len(answer))))
