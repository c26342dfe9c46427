"""A finder from outside in thirty lines: the newest items first, whatever is asked.

Importing this file registers the kind ``newest``; a package would announce it by an entry point instead, see
`genrail.finding.register`. Then it is built, saved, served, grown and compared like any other:
``Engine.build(catalog, "newest")``, or as a lane: ``Engine.build(catalog, lanes=["bm25", "newest"])``.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from genrail.finding import Finder, Found, Recipe, Searching, register


class Newest(Searching, Finder):
    name = "Newest"

    def __init__(self, catalog, recipe):
        self.catalog, self.recipe = catalog, recipe

    def find(self, requests, k, options):
        answers = (np.flatnonzero(request.allowed)[::-1][:k] for request in requests)
        return [Found(rows, rows.astype(np.float64)) for rows in answers]

    def grow(self, catalog, change):
        return Newest(catalog, self.recipe)

    def save(self, folder):
        return {}

    @classmethod
    def load(cls, folder, details, catalog, encoder=None):
        return cls(catalog, NewestRecipe.from_dict(details["recipe"]))


@register
@dataclass(frozen=True)
class NewestRecipe(Recipe):
    kind: ClassVar[str] = "newest"
    finder: ClassVar[type[Finder]] = Newest

    def build(self, data, progress):
        return Newest(data.catalog, self)
