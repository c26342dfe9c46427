"""A scorer from outside: shorter titles first among the items that a finder found.

Importing this file registers the kind ``short-titles``: ``Engine.build(catalog, "reranked", scorer="short-titles")``.
"""

import numpy as np

from genrail.finding.registry import register_scorer


@register_scorer
class ShortTitles:
    kind = "short-titles"
    name = "short titles"

    def score(self, request, rows, catalog):
        return np.array([-float(len(catalog.titles[row])) for row in rows.tolist()])

    def save(self, folder):
        return {}

    @classmethod
    def load(cls, folder, details):
        return cls()
