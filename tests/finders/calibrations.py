"""A calibration of new items for tests, as one was once learnt."""

from genrail.finders.new_item_scores import Calibration

LEARNT = {
    "new": (0.25, 0.64, 2.54, -0.03, 1.91, 1.07),
    "new_bias": -8.06,
    "known": (1.18, 0.90, 1.07, 0.05),
    "known_bias": -0.42,
    "slope": 1.32,
    "slope_bias": 0.89,
    "margin": 0.5,
}


def calibration(**other):
    """Make the calibration with some values changed."""
    return Calibration(**{**LEARNT, **other})
