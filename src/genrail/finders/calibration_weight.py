"""How much of what titles have anyway is taken off from the scores of a taught model: chosen on held-out requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from genrail.catalog import Catalog
from genrail.decoding import BeamSettings
from genrail.decoding.decoders import Calibrated
from genrail.finders.fine_tuning import CUTOFF, validation
from genrail.finding import Finder, FindOptions, Found, Progress, Request
from genrail.training.pairs import Pair

__all__ = ["WEIGHTS", "chosen_weight"]

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)  # that are tried: from a model that knows what is asked to an untaught one


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

    Cost: five searches for each held-out request.
    """
    railed = replace(beam, meaning="renormalised")
    figures: dict[float, float] = {}
    for weight in WEIGHTS:
        progress("weight of the calibration", len(figures), len(WEIGHTS))
        decoder = Calibrated(railed, weight) if weight else railed

        def find(requests: list[Request], decoder: BeamSettings | Calibrated = decoder) -> list[Found]:
            return finder.find(requests, CUTOFF, FindOptions(decoder=decoder))

        measure = validation(held, catalog, find)
        figures[weight] = 0.0 if measure is None else measure()[f"nDCG@{CUTOFF}"]
    progress("weight of the calibration", len(WEIGHTS), len(WEIGHTS))
    return max(WEIGHTS, key=lambda weight: (figures[weight], -weight))
