"""How near items come to words that mean nothing: what a lane's score has to exceed for something to fit.

Nearness of vectors has no natural zero: something is always nearest. So each lane that reads words is asked for texts
made of the letters of titles in another order. If it does not say by itself that nothing fits most of them, as lexical
methods do, the best score that any of them gets is its level of noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from genrail.catalog import Catalog
from genrail.finding import Edition, Finder, FindOptions, Found, resolve
from genrail.rng import generator
from genrail.types import Progress, Query

__all__ = ["noise_levels", "nonsense", "something_fits"]

TEXTS = 32  # of which a text like them exceeds the best with a chance of 1 in 33, for each lane
LETTERS = (8, 17)  # of a text: two words of four to eight letters


def nonsense(titles: Sequence[str], count: int, seed: int) -> list[str]:
    """Make texts of two words each from the letters of some titles, put into another order.

    >>> nonsense(["Trail boot"], 2, seed=0)
    ['robol atit', 'botil arto']
    """
    rng = generator(seed, "nonsense")
    texts = []
    for title in rng.choice(np.asarray(titles, dtype=object), size=min(count, 4 * len(titles))).tolist():
        letters = [letter for letter in title.lower() if letter.isalpha()][: int(rng.integers(*LETTERS))]
        mixed = "".join(letters[place] for place in rng.permutation(len(letters)).tolist())
        half = (len(mixed) + 1) // 2
        texts.append(f"{mixed[:half]} {mixed[half:]}".strip())
    return [text for text in texts if text]


def noise_levels(lanes: Mapping[str, Finder], catalog: Catalog, seed: int, progress: Progress) -> dict[str, float]:
    """Ask each lane that reads words for nonsense, and take the best score of any item.

    Lanes that write identifiers spread the same probability over whatever there is, and have no level.

    Cost: 32 questions to each lane.
    """
    telling = [name for name, lane in lanes.items() if lane.reads_words and not hasattr(lane, "decoder")]
    titles = [catalog.titles[row] for row in np.flatnonzero(catalog.live).tolist()]
    texts = nonsense(titles, TEXTS, seed)
    levels: dict[str, float] = {}
    for done, name in enumerate(telling if texts else []):
        progress("what means nothing", done, len(telling))
        edition = Edition(catalog, lanes[name])
        requests = [resolve(Query(text), catalog, edition.filters) for text in texts]
        found = lanes[name].find(requests, 1, FindOptions())
        if 2 * sum(one.fits for one in found) > len(found):
            levels[name] = max((float(one.scores[0]) for one in found if len(one)), default=0.0)
    if telling and texts:
        progress("what means nothing", len(telling), len(telling))
    return levels


def something_fits(found: Mapping[str, Found], lanes: Mapping[str, Finder], levels: Mapping[str, float] | None) -> bool:
    """Tell whether some lane finds an item that has to do with the words.

    A lane without a level is believed; by another one an item has to be nearer than any is to nonsense.

    Args:
        found: What each lane listed, best first.
        lanes: By name.
        levels: Of noise; None where they are not known.
    """
    if levels is None:
        return True
    telling = {name: one for name, one in found.items() if len(one) and not hasattr(lanes[name], "decoder")}
    return any(float(one.scores[0]) > levels[name] if name in levels else one.fits for name, one in telling.items())
