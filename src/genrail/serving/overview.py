"""Tell what an engine holds, for the page: what can be filtered by, and what lies below a prefix of identifiers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from genrail.arrays import Array
from genrail.catalog import Catalog
from genrail.constraints.index import Beams
from genrail.errors import QueryError
from genrail.finders.generative import generative_part
from genrail.finding import Edition
from genrail.serving.title_words import TitleWords
from genrail.serving.twin_numbers import TwinNumbers
from genrail.types import JsonObject

__all__ = ["Tree", "branches", "example_queries"]

SAMPLES = 3


def example_queries(catalog: Catalog, names: TitleWords) -> list[str]:
    """Give a few queries to try: phrases that titles share, or else titles from all over the catalogue."""
    if found := names.phrases():
        return found
    rows = np.flatnonzero(catalog.live)
    if not len(rows):
        return []
    picked = rows[np.linspace(0, len(rows) - 1, SAMPLES + 2).astype(np.int64)[1:-1]]
    return list(dict.fromkeys(catalog.titles[int(row)] for row in picked))


def branches(
    edition: Edition,
    prefix: Sequence[int],
    where: str | None,
    most: int,
    titles: int,
    tenant: bool = False,
    names: TitleWords | None = None,
) -> JsonObject:
    """List what can follow a prefix of identifiers, and the items below each continuation.

    Args:
        edition: As the caller sees it.
        prefix: Tokens, perhaps none.
        where: A filter, or None.
        most: Continuations that are listed, those with the most items first.
        titles: Items that are named below each.
        tenant: Number twins among the items of this edition only.
        names: Names each continuation by words of the titles below; None makes no names.

    Returns:
        `items` below the prefix, `children` (`token`, `items`, `words`, `examples` of id and title) and `others`
        (`children` and `items` that are not listed). An item with several identifiers counts in each child that leads
        to one.

    Raises:
        QueryError: No item's identifier begins so, or the engine writes no identifiers.
        FilterError: The filter cannot be evaluated.

    Cost: the rows below the prefix.
    """
    tree = Tree(edition, where)
    numbers = TwinNumbers(edition if tenant else None)
    prefix = numbers.token(prefix)
    state = tree.descend(prefix)
    tokens, counts = tree.trie.children(state, tree.subset)
    order = np.argsort(-counts, kind="stable")
    listed = order[:most]
    children = [
        {
            "token": numbers.own([*prefix, int(tokens[place])])[-1],
            "items": int(counts[place]),
            "words": [] if names is None else names.naming(tree.rows(below)),
            "examples": tree.examples(below, titles),
        }
        for place, below in zip(listed.tolist(), tree.after(state, len(prefix), tokens[listed]), strict=True)
    ]
    left = order[most:]
    return {
        "items": len(tree.trie.items(state, tree.subset)) if len(tokens) else 0,
        "children": children,
        "others": {"children": len(left), "items": int(counts[left].sum())},
    }


class Tree:
    """Walk the trie of an edition."""

    def __init__(self, edition: Edition, where: str | None) -> None:
        part = generative_part(edition.finder)
        if part is None:
            raise QueryError(f"{edition.finder.name} writes no identifiers, so there is no tree of them to walk")
        self._catalog = edition.catalog
        self.trie = part.index
        self.subset = None
        if where is not None:
            self.subset = self.trie.subset(edition.filters.get(where)[1] & edition.catalog.live)

    def descend(self, prefix: Sequence[int]) -> Array:
        """Give the state behind a prefix.

        Raises:
            QueryError: Nothing that is allowed begins so.
        """
        state: Array = self.trie.start(1).states[0, 0]
        for depth, token in enumerate(prefix):
            if token not in self.trie.children(state, self.subset)[0]:
                begun = list(prefix[: depth + 1])
                raise QueryError(f"no identifier of an allowed item begins with {begun}; start with an empty prefix")
            state = self.after(state, depth, np.array([token]))[0]
        return state

    def after(self, state: Array, depth: int, tokens: Array) -> list[Array]:
        """Give the states behind some tokens that may follow a state."""
        if not len(tokens):
            return []
        beams = Beams(state[None, None], np.ones((1, 1), dtype=np.bool_), depth)
        logits = np.full((1, self.trie.vocab_size), -np.inf, dtype=np.float32)
        logits[0, tokens] = 0.0
        found = self.trie.candidates(beams, logits, np.zeros((1, 1)), len(tokens), [self.subset])
        place = {int(token): number for number, token in enumerate(found.tokens[0])}
        return [found.states[0, place[int(token)]] for token in tokens]

    def rows(self, state: Array) -> Array:
        """Give the rows below a state."""
        found: Array = self.trie.items(state, self.subset)
        return found

    def examples(self, state: Array, most: int) -> list[dict[str, str]]:
        """Name some items below a state."""
        rows = self.rows(state)
        ids, titles = self._catalog.item_ids, self._catalog.titles
        return [{"id": ids[row], "title": titles[row]} for row in rows[:most].tolist()]
