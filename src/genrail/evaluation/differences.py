"""What several evaluations on the same queries say about each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from genrail.evaluation.building import BuildCost
from genrail.evaluation.evaluations import Evaluation
from genrail.evaluation.runs import Qrels
from genrail.evaluation.significance import Interval, PairedTest
from genrail.evaluation.slices import Slice, slice_means
from genrail.types import Query

__all__ = ["INTERVALS", "Differences", "is_bm25"]

OVERLAP_DEPTH = 10
NOTICED_MILLISECONDS = 1.0  # nobody waits for less, and single calls are timed no better
NOTICED_SHARE = 0.2  # medians of the same method on a busy machine differ by as much
INTERVALS = (
    "p-values are of paired randomisation tests, corrected by Holm; the interval of a difference is a bootstrap "
    "interval over queries at the same corrected level, so that both say the same."
)


@dataclass(frozen=True)
class Differences:
    """Hold several evaluations on the same queries, and what can be said about their differences.

    Args:
        evaluations: By name, in the order given.
        failures: Methods that crashed, with their message.
        metric: The metric that decides, as typed.
        queries: What was asked.
        qrels: What is relevant.
        intervals: Mean of the deciding metric with its bootstrap interval, by name.
        against_best: Each other method against the best, corrected by Holm over this family.
        against_cheapest: Each other method against the quickest, corrected by Holm over this family.
        titles: Titles of the items that the report shows; empty where no catalogue was known.
        costs: What building each method took, by name, where it is known.
        slices: Parts of the queries that are reported apart.
        choices: How settings were chosen before, one sentence each.
        traps: What in the data may make the figures look better, or other, than they are, one clause each.
        lanes: Methods that are a lane of an engine: the engine's name and the lane's.
        interleaved: What clicks prefer when each other method is interleaved with the best, where that was asked for.
    """

    evaluations: Mapping[str, Evaluation]
    failures: Mapping[str, str]
    metric: str
    queries: Mapping[str, Query]
    qrels: Qrels
    intervals: Mapping[str, Interval]
    against_best: Mapping[str, PairedTest]
    against_cheapest: Mapping[str, PairedTest]
    titles: Mapping[str, str]
    costs: Mapping[str, BuildCost] = field(default_factory=dict)
    slices: Sequence[Slice] = ()
    choices: tuple[str, ...] = ()
    traps: tuple[str, ...] = ()
    lanes: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    interleaved: Mapping[str, PairedTest] = field(default_factory=dict)

    @property
    def best(self) -> str:
        """Name the method with the highest mean; between equal means BM25, or else the quicker one."""
        means = {name: evaluation.means[self.metric] for name, evaluation in self.evaluations.items()}
        top = [name for name in means if means[name] == max(means.values())]
        quickest = min(top, key=self.cost)
        plain = [name for name in top if is_bm25(name) and not self.saves_time(quickest, name)]
        return plain[0] if plain else quickest

    @property
    def cheapest(self) -> str:
        """Name the method with the lowest median time per query."""
        return min(self.evaluations, key=self.cost)

    def cost(self, name: str) -> float:
        """Give a method's median milliseconds per query; by batches where single queries were not timed."""
        evaluation = self.evaluations[name]
        if evaluation.latency is not None:
            return evaluation.latency.p50_milliseconds
        return 1000.0 / evaluation.queries_per_second

    def saves_time(self, quick: str, slow: str) -> bool:
        """Tell whether one method is quicker than another by more than people or a noisy clock would notice."""
        saved = self.cost(slow) - self.cost(quick)
        return saved >= NOTICED_MILLISECONDS and saved >= NOTICED_SHARE * self.cost(slow)

    def rows(self) -> tuple[list[str], list[list[str]]]:
        """Lay out header and rows, the best mean first."""
        names = sorted(self.evaluations, key=lambda name: -self.evaluations[name].means[self.metric])
        metrics = list(self.evaluations[names[0]].means)
        header = ["method", *metrics, f"{self.metric} against {self.best}", "p (Holm)", "p50 ms", "p99 ms"]
        return header, [self._row(name, metrics) for name in names]

    def _row(self, name: str, metrics: list[str]) -> list[str]:
        evaluation = self.evaluations[name]
        test = self.against_best.get(name)
        latency = evaluation.latency
        return [
            name,
            *[f"{evaluation.means[metric]:.4f}" for metric in metrics],
            "best" if test is None else f"{test.difference} {test.verdict}",
            "" if test is None else f"{test.adjusted_p:.4f}",
            f"{self.cost(name):.2f}",
            "" if latency is None else f"{latency.p99_milliseconds:.2f}",
        ]

    def cost_rows(self) -> tuple[list[str], list[list[str]]]:
        """Lay out what each method costs: to build, to keep, to ask."""
        items = max([evaluation.counts.catalog_size or 0 for evaluation in self.evaluations.values()])
        header = ["method", "build s", "index MiB", "index bytes / item", "RAM bytes / item", "p95 ms", "queries / s"]
        rows = []
        for name, evaluation in self.evaluations.items():
            cost = self.costs.get(name, BuildCost(None, None, None))
            rows.append(
                [
                    name,
                    "" if cost.seconds is None else f"{cost.seconds:.1f}",
                    "" if cost.index_bytes is None else f"{cost.index_bytes / 2**20:.1f}",
                    "" if cost.index_bytes is None or not items else f"{cost.index_bytes / items:.0f}",
                    "" if cost.memory_bytes is None or not items else f"{cost.memory_bytes / items:.0f}",
                    "" if evaluation.latency is None else f"{evaluation.latency.p95_milliseconds:.2f}",
                    f"{evaluation.queries_per_second:.0f}",
                ]
            )
        return header, rows

    def slice_rows(self) -> tuple[list[str], list[list[str]]]:
        """Lay out the deciding metric over parts of the queries."""
        names = list(self.evaluations)
        found = slice_means(self.evaluations, self.metric, self.slices)
        rows = [[part.slice, str(part.queries), *[f"{part.means[name]:.4f}" for name in names]] for part in found]
        return [f"{self.metric} over", "queries", *names], rows

    def remarks(self) -> list[str]:
        """List what to know beside the table, one sentence each: choices, traps, notes, failures."""
        notes = dict.fromkeys(note for evaluation in self.evaluations.values() for note in evaluation.notes)
        return [
            *self.choices,
            *[f"Trap: {trap}." for trap in self.traps],
            *[f"Note: {note}." for note in notes],
            *[
                f"Interleaved with {self.best}, clicks prefer {name} by {test.difference} (-1 to 1): {test.verdict}."
                for name, test in self.interleaved.items()
            ],
            *[f"Failed: {name}: {message}" for name, message in self.failures.items()],
        ]

    def overlap(self) -> dict[str, dict[str, float]]:
        """Give the mean share of the ten best items that two methods have in common."""
        tops = {
            name: {query_id: set(list(hits)[:OVERLAP_DEPTH]) for query_id, hits in evaluation.run.items()}
            for name, evaluation in self.evaluations.items()
            if evaluation.run is not None
        }
        return {first: {second: _shared(tops[first], tops[second]) for second in tops} for first in tops}

    def changes(self, first: str, second: str, most: int = 5) -> tuple[list[str], list[str]]:
        """List the query ids where `first` gains most over `second`, and where it loses most."""
        one = self.evaluations[first].measured.by_query(self.metric)
        two = self.evaluations[second].measured.by_query(self.metric)
        order = sorted(one, key=lambda query_id: two[query_id] - one[query_id])  # stable: ties in the given order
        wins = [query_id for query_id in order[:most] if one[query_id] > two[query_id]]
        losses = [query_id for query_id in order[::-1][:most] if one[query_id] < two[query_id]]
        return wins, losses


def is_bm25(name: str) -> bool:
    """Tell whether a method is BM25: what to use wherever nothing is better, since it needs no model."""
    return name.split(" (")[0] == "BM25"


def _shared(first: Mapping[str, set[str]], second: Mapping[str, set[str]]) -> float:
    shares = [
        len(items & second[query_id]) / max(len(items), len(second[query_id]))
        for query_id, items in first.items()
        if items or second.get(query_id)
    ]
    return float(np.mean(shares)) if shares else math.nan
