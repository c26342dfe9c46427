"""How much of what titles have anyway is taken off from the scores of a taught model: chosen on held-out requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from genrail.catalog import Catalog
from genrail.decoding import BeamSettings
from genrail.decoding.decoders import Calibrated
from genrail.finders.fine_tuning import CUTOFF, TOGETHER, asked
from genrail.finding import Finder, FindOptions, Progress
from genrail.training.figures import graded_figures
from genrail.training.pairs import Pair

__all__ = ["SEARCHED", "WEIGHTS", "chosen_weight"]

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)  # that are tried: from a model that knows what is asked to an untaught one
SEARCHED = (0.25, 1.0)  # with which items are searched for; all weights then rank what these found
POOL = 2 * CUTOFF  # items of each search


def chosen_weight(
    finder: Finder, catalog: Catalog, beam: BeamSettings, held: Sequence[Pair], progress: Progress
) -> float:
    """Choose the weight that finds most of what is held out, the smallest of equal ones.

    Args:
        finder: The taught one.
        catalog: Its own.
        beam: How it searches.
        held: Requests and their right items, one at least.
        progress: Called with (stage, done, total).

    Cost: two searches for each held-out request, instead of one for each weight; an item that neither has among its
    best 20 is missed.
    """
    railed = replace(beam, meaning="renormalised", width=max(beam.width, POOL), length_normalisation=0.0)
    ranked: dict[float, list[npt.NDArray[np.int64]]] = {weight: [] for weight in WEIGHTS}
    for first in range(0, len(held), TOGETHER):
        progress("weight of the calibration", first, len(held))
        requests = [asked(pair, catalog) for pair in held[first : first + TOGETHER]]
        said: list[dict[int, tuple[float, float]]] = [{} for _ in requests]
        for weight in SEARCHED:
            options = FindOptions(decoder=Calibrated(railed, weight))
            for one, found in zip(said, finder.find(requests, POOL, options), strict=True):
                assert found.log_probabilities is not None
                anyway = (found.log_probabilities - found.scores) / weight
                one |= dict(zip(found.rows.tolist(), zip(found.log_probabilities, anyway, strict=True), strict=True))
        for weight in WEIGHTS:
            ranked[weight] += [_best(one, weight) for one in said]
    progress("weight of the calibration", len(held), len(held))
    right = [dict(zip(pair.rows, pair.weights, strict=True)) for pair in held]
    figures = {weight: graded_figures(rows, right, CUTOFF)[0] for weight, rows in ranked.items()}
    return max(WEIGHTS, key=lambda weight: (figures[weight], -weight))


def _best(said: Mapping[int, tuple[float, float]], weight: float) -> npt.NDArray[np.int64]:
    """Rank items by their log-probability without so much of what they have anyway."""
    rows, values = np.array(list(said), dtype=np.int64), np.array(list(said.values())).reshape(-1, 2)
    return rows[np.argsort(-(values[:, 0] - weight * values[:, 1]), kind="stable")[:CUTOFF]]
