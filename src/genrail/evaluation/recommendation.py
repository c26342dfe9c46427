"""Put a comparison into two sentences: what was found, and what to use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genrail.evaluation.significance import NO_DIFFERENCE, PairedTest

if TYPE_CHECKING:
    from genrail.evaluation.comparison import Comparison

__all__ = ["FEW_QUERIES", "recommend"]

FEW_QUERIES = 50  # with fewer, a true difference of 0.05 is mostly missed (differences usually spread by 0.2 or more)


def recommend(comparison: Comparison) -> str:
    """Say what was found and what to use, in two sentences with the figures behind them.

    The quickest method of which no difference to the best was shown is recommended. That is a decision under
    uncertainty, not a proof that they are equal; the interval says how much could be lost.
    """
    best = comparison.best
    rivals = {name: test for name, test in comparison.against_best.items() if test.verdict == NO_DIFFERENCE}
    choice = min([best, *rivals], key=lambda name: (comparison.cost(name), name != best))
    if len(comparison.evaluations) == 1:
        return _alone(comparison, best)
    if choice == best:
        return f"{_winner(comparison, best, rivals)} {_use_best(comparison, best)}"
    return f"{_draw(comparison, best, choice)} {_use_cheaper(comparison, best, choice)}"


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
