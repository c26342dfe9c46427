"""Put a comparison into two sentences: what was found, and what to use."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from genrail.evaluation.differences import Differences, is_bm25
from genrail.evaluation.significance import NO_DIFFERENCE, PairedTest

__all__ = ["FEW_QUERIES", "queries_needed", "recommend"]

FEW_QUERIES = 50  # with fewer, a true difference of 0.05 is mostly missed (differences usually spread by 0.2 or more)
BEARABLE = 0.05  # share of the best figure that may be lost for a quicker method; less is seldom noticed
POWER = 0.8  # the usual chance to show a difference that is there


def recommend(found: Differences) -> str:
    """Say what was found and what to use, in two sentences with the figures behind them.

    The best method is recommended, or a noticeably quicker one that loses so little that it is bearable even at the
    low end of the interval. Between methods of the same cost the better one is, and BM25 where none is better. Where
    the queries are too few to tell the best from another one, the advice says so.
    """
    best, choice = found.best, _choice(found)
    if len(found.evaluations) == 1:
        return _alone(found, best)
    if choice != best:
        return f"{_draw(found, best, choice)} {_use_cheaper(found, best, choice)}"
    rivals = {name: test for name, test in found.against_best.items() if test.verdict == NO_DIFFERENCE}
    undecided = [name for name in rivals if not _bearable(found, name)]
    return f"{_winner(found, best, rivals)} {_undecided(found, undecided) if undecided else _use_best(found, best)}"


def queries_needed(found: Differences, name: str) -> int | None:
    """Count the queries by which the difference of a method to the best would mostly be shown.

    Returns:
        None where there is no difference, or a single query to judge its spread by.

    Source: the sample size of a paired comparison of means, at the level of Bonferroni and a power of 0.8.
    """
    best, other = (found.evaluations[one].measured.values[found.metric] for one in (found.best, name))
    differences = np.asarray(best) - np.asarray(other)
    mean = float(differences.mean())
    if mean == 0.0 or len(differences) < 2:
        return None
    deviations = NormalDist().inv_cdf(1 - _level(found, name) / 2) + NormalDist().inv_cdf(POWER)
    by_spread = math.ceil((deviations * float(differences.std(ddof=1)) / mean) ** 2)
    return max(by_spread, _fewest(found, name))


def _level(found: Differences, name: str) -> float:
    """Give the error rate that is left for one of several comparisons."""
    return found.against_best[name].alpha / len(found.against_best)


def _fewest(found: Differences, name: str) -> int:
    """Count the queries below which there are too few sign patterns to show any difference, however large."""
    return math.ceil(1 + math.log2(1 / _level(found, name)))


def _choice(found: Differences) -> str:
    best = found.best
    quicker = [name for name in found.against_best if _bearable(found, name) and found.saves_time(name, best)]
    if not quicker:
        return best
    quickest = min(quicker, key=found.cost)
    chosen = max(
        (name for name in quicker if not found.saves_time(quickest, name)), key=lambda name: _mean(found, name)
    )
    as_good = [name for name, test in found.against_best.items() if test.verdict == NO_DIFFERENCE]
    as_quick = [name for name in as_good if not found.saves_time(chosen, name)]
    return max(as_quick, key=lambda name: (_mean(found, name), is_bm25(name), -found.cost(name)))


def _bearable(found: Differences, name: str) -> bool:
    """Tell whether a method is not shown to be worse, and would lose little even at the low end of the interval."""
    test = found.against_best[name]
    if test.verdict != NO_DIFFERENCE or test.difference.low is None or _counted(found) < _fewest(found, name):
        return False
    return -test.difference.low <= BEARABLE * _mean(found, found.best)


def _alone(found: Differences, name: str) -> str:
    return (
        f"Only {name} could be measured: {found.metric} {_mean(found, name):.4f} on {_queries(found)}. "
        "There is nothing to compare it with: add BM25 before deciding."
    )


def _winner(found: Differences, best: str, rivals: dict[str, PairedTest]) -> str:
    head = f"{best} has the highest {found.metric} ({_mean(found, best):.4f} on {_queries(found)})"
    beaten = [name for name, test in found.against_best.items() if test.verdict == "worse"]
    if beaten:
        second = max(beaten, key=lambda name: _mean(found, name))
        test = found.against_best[second]
        gain = -test.difference.mean
        head += f", {gain:.4f} above {second} (p {_p(test)})"
    if rivals:
        shown = ", ".join(f"{name} (p {_p(test)})" for name, test in rivals.items())
        head += f"; {NO_DIFFERENCE} to {shown}"
    return head + "."


def _use_best(found: Differences, best: str) -> str:
    cheapest = found.cheapest
    if cheapest == best:
        return f"It is also the quickest ({_milliseconds(found, best)}): {_use(found, best)}."
    if not found.saves_time(cheapest, best):
        return f"None is noticeably quicker ({_milliseconds(found, best)}): {_use(found, best)}."
    test = found.against_best[cheapest]
    return (
        f"{cheapest} is {_times(found, best, cheapest)} quicker ({_milliseconds(found, cheapest)} against "
        f"{_milliseconds(found, best)}) but loses {-test.difference.mean:.4f}: {_use(found, best)} if that matters, "
        f"otherwise {cheapest}."
    )


def _undecided(found: Differences, rivals: list[str]) -> str:
    """Say that the queries do not decide between the best and the nearest of its rivals."""
    best, nearest = found.best, max(rivals, key=lambda name: _mean(found, name))
    gap = _mean(found, best) - _mean(found, nearest)
    needed, counted = queries_needed(found, nearest), _counted(found)
    if gap == 0.0:
        return f"It is undecided whether {nearest}, with the same figure, is worse: {_use(found, best)}."
    many = "more" if needed is None or needed <= counted else f"about {needed}"
    return (
        f"It is undecided whether {nearest} is worse: its {gap:.4f} less take {many} queries to show; until then "
        f"{_use(found, best)}."
    )


def _draw(found: Differences, best: str, choice: str) -> str:
    test = found.against_best[choice]
    values = ", ".join(f"{_mean(found, name):.4f}" for name in (best, choice))
    return (
        f"{best} and {choice}: {NO_DIFFERENCE} on {found.metric} ({values}; {choice} minus {best} "
        f"{test.difference}, p {_p(test)}, {_queries(found)})."
    )


def _use_cheaper(found: Differences, best: str, choice: str) -> str:
    return (
        f"{choice} is {_times(found, best, choice)} quicker ({_milliseconds(found, choice)} against "
        f"{_milliseconds(found, best)}): {_use(found, choice)}, unless a gain within that interval is worth the "
        "difference."
    )


def _use(found: Differences, name: str) -> str:
    """Say what to use; of a method that is a lane of an engine, how the engine is asked for it."""
    if name not in found.lanes:
        return f"use {name}"
    engine, lane = found.lanes[name]
    return f'use {name}, the lane "{lane}" of {engine}'


def _mean(found: Differences, name: str) -> float:
    return found.evaluations[name].means[found.metric]


def _counted(found: Differences) -> int:
    return len(found.evaluations[found.best].measured.query_ids)


def _queries(found: Differences) -> str:
    counted = _counted(found)
    few = ", too few to show small differences" if counted < FEW_QUERIES else ""
    return f"{counted} {'query' if counted == 1 else 'queries'}{few}"


def _milliseconds(found: Differences, name: str) -> str:
    return f"{found.cost(name):.2g} ms"


def _times(found: Differences, slow: str, quick: str) -> str:
    return f"{found.cost(slow) / max(found.cost(quick), 1e-6):.1f} x"


def _p(test: PairedTest) -> str:
    return "< 0.001" if test.adjusted_p < 0.001 else f"= {test.adjusted_p:.3f}"
