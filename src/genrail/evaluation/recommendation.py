"""Put a comparison into two sentences: what was found, and what to use."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from genrail.evaluation.significance import NO_DIFFERENCE, PairedTest

if TYPE_CHECKING:
    from genrail.evaluation.comparison import Comparison

__all__ = ["FEW_QUERIES", "recommend"]

FEW_QUERIES = 50  # with fewer, a true difference of 0.05 is mostly missed (differences usually spread by 0.2 or more)
MATTERS = 0.1  # of the best one's figure: a loss that nobody gives away unseen
FEWEST = 6  # queries: with fewer not even a difference in all of them is significant (2/2^n > 0.05)
_POWER = (1.96 + 0.84) ** 2


def recommend(comparison: Comparison) -> str:
    """Say what was found and what to use, in two sentences with the figures behind them.

    The quickest method of which no difference to the best was shown is recommended. That is a decision under
    uncertainty, not a proof that they are equal; the interval says how much could be lost. A method that lost a tenth
    or more of the best one's figure is never recommended because there were too few queries to show it: the best one is
    named then, and the matter is called undecided.
    """
    best = comparison.best
    unshown = {name: test for name, test in comparison.against_best.items() if test.verdict == NO_DIFFERENCE}
    rivals = {name: test for name, test in unshown.items() if not _matters(comparison, test)}
    open_ones = [name for name in unshown if name not in rivals]
    choice = min([best, *rivals], key=lambda name: (comparison.cost(name), name != best))
    if len(comparison.evaluations) == 1:
        return _alone(comparison, best)
    if choice == best and open_ones:
        return f"{_winner(comparison, best, rivals)} {_undecided(comparison, best, open_ones)}"
    if choice == best:
        return f"{_winner(comparison, best, rivals)} {_use_best(comparison, best)}"
    return f"{_draw(comparison, best, choice)} {_use_cheaper(comparison, best, choice)}"


def _matters(comparison: Comparison, test: PairedTest) -> bool:
    """Tell whether a difference is too large to be passed over for lack of queries."""
    return -test.difference.mean >= MATTERS * comparison.evaluations[comparison.best].means[comparison.metric] > 0


def _undecided(comparison: Comparison, best: str, names: list[str]) -> str:
    """Say how many queries could show the differences that these could not."""
    nearest = max(names, key=lambda name: comparison.evaluations[name].means[comparison.metric])
    loss = -comparison.against_best[nearest].difference.mean
    others = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return (
        f"It is undecided whether {nearest}{others} is worse: a difference of {loss:.4f} takes about "
        f"{_needed(comparison, best, nearest):,} queries to show; until then use {best}."
    )


def _needed(comparison: Comparison, best: str, name: str) -> int:
    """Give the queries that show the difference seen in four of five samples (paired, two-sided 5 %; Cohen 1988)."""
    values = [comparison.evaluations[one].measured.values[comparison.metric] for one in (best, name)]
    difference = np.asarray(values[0]) - np.asarray(values[1])
    spread = float(difference.std(ddof=1)) if len(difference) > 1 else abs(float(difference.mean()))
    mean = abs(float(difference.mean()))
    # Few queries say little about the spread: never fewer than would be significant if all differed alike.
    return max(len(difference) + 1, FEWEST, math.ceil(_POWER * (spread / mean) ** 2))


def _alone(comparison: Comparison, name: str) -> str:
    mean = comparison.evaluations[name].means[comparison.metric]
    return (
        f"Only {name} could be measured: {comparison.metric} {mean:.4f} on {_queries(comparison)}. "
        "There is nothing to compare it with: add BM25 before deciding."
    )


def _winner(comparison: Comparison, best: str, rivals: dict[str, PairedTest]) -> str:
    mean = comparison.evaluations[best].means[comparison.metric]
    head = f"{best} has the highest {comparison.metric} ({mean:.4f} on {_queries(comparison)})"
    beaten = [name for name, test in comparison.against_best.items() if test.verdict == "worse"]
    if beaten:
        second = max(beaten, key=lambda name: comparison.evaluations[name].means[comparison.metric])
        test = comparison.against_best[second]
        gain = -test.difference.mean
        head += f", {gain:.4f} above {second} (p {_p(test)})"
    if rivals:
        shown = ", ".join(f"{name} (p {_p(test)})" for name, test in rivals.items())
        head += f"; {NO_DIFFERENCE} to {shown}"
    return head + "."


def _use_best(comparison: Comparison, best: str) -> str:
    cheapest = comparison.cheapest
    if cheapest == best:
        return f"It is also the quickest ({_milliseconds(comparison, best)}): use {best}."
    test = comparison.against_best[cheapest]
    return (
        f"{cheapest} is {_times(comparison, best, cheapest)} quicker ({_milliseconds(comparison, cheapest)} against "
        f"{_milliseconds(comparison, best)}) but loses {-test.difference.mean:.4f}: use {best} if that matters, "
        f"otherwise {cheapest}."
    )


def _draw(comparison: Comparison, best: str, choice: str) -> str:
    test = comparison.against_best[choice]
    values = ", ".join(f"{comparison.evaluations[name].means[comparison.metric]:.4f}" for name in (best, choice))
    return (
        f"{best} and {choice}: {NO_DIFFERENCE} on {comparison.metric} ({values}; {choice} minus {best} "
        f"{test.difference}, p {_p(test)}, {_queries(comparison)})."
    )


def _use_cheaper(comparison: Comparison, best: str, choice: str) -> str:
    return (
        f"{choice} is {_times(comparison, best, choice)} quicker ({_milliseconds(comparison, choice)} against "
        f"{_milliseconds(comparison, best)}): use {choice}, unless a gain within that interval is worth the difference."
    )


def _queries(comparison: Comparison) -> str:
    counted = len(comparison.evaluations[comparison.best].measured.query_ids)
    few = ", too few to show small differences" if counted < FEW_QUERIES else ""
    return f"{counted} {'query' if counted == 1 else 'queries'}{few}"


def _milliseconds(comparison: Comparison, name: str) -> str:
    return f"{comparison.cost(name):.2g} ms"


def _times(comparison: Comparison, slow: str, quick: str) -> str:
    return f"{comparison.cost(slow) / max(comparison.cost(quick), 1e-6):.1f} x"


def _p(test: PairedTest) -> str:
    return "< 0.001" if test.adjusted_p < 0.001 else f"= {test.adjusted_p:.3f}"
