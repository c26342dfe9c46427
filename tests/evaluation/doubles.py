"""Retrievers whose answers are known, and a shop for them."""

from __future__ import annotations

import time

from genrail.catalog import Catalog
from genrail.errors import QueryError
from genrail.types import Hit, Ranking

SHOP = Catalog.from_items([{"id": f"i{number}", "title": f"Item {number}"} for number in range(20)])


class Scripted:
    """Answer each query by its words, from a dictionary of item ids."""

    def __init__(self, answers, name="scripted", catalog=SHOP, seconds=0.0):
        self.answers = answers
        self.name = name
        self.catalog = catalog
        self.seconds = seconds
        self.asked = []

    def search_batch(self, queries, k=10):
        self.asked.append(len(queries))
        time.sleep(self.seconds)
        return [self.ranking(query, k) for query in queries]

    def ranking(self, query, k):
        ids = self.answers.get(query.text, [])[:k]
        hits = tuple(Hit(item, item.upper(), -float(place), place) for place, item in enumerate(ids, start=1))
        return Ranking(hits, exhausted=len(hits) < k)


class Refusing(Scripted):
    """Refuse some queries."""

    def __init__(self, answers, refused, **options):
        super().__init__(answers, **options)
        self.refused = refused

    def ranking(self, query, k):
        if query.text in self.refused:
            raise QueryError(f"cannot read {query.text!r}")
        return super().ranking(query, k)


class Crashing:
    """Fail with an error of its own making."""

    name = "crashing"

    def search_batch(self, queries, k=10):
        raise ZeroDivisionError("deep inside")
