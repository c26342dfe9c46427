"""Compare retrievers on the same queries, and say in two sentences which to use."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genrail.errors import GenrailError, SettingsError
from genrail.evaluation.building import BuildCost
from genrail.evaluation.calibration import calibration
from genrail.evaluation.evaluations import (
    LATENCY_SAMPLE,
    Evaluation,
    Queries,
    as_queries,
    evaluate,
)
from genrail.evaluation.metrics import DEFAULT_METRICS, Metric, parse_metrics
from genrail.evaluation.runs import Qrels
from genrail.evaluation.significance import Interval, PairedTest, bootstrap_interval, paired_tests
from genrail.evaluation.slices import Slice, query_slices, slice_means
from genrail.evaluation.tables import markdown_table, text_table
from genrail.types import Query, Retriever

if TYPE_CHECKING:
    from genrail.catalog import Catalog

__all__ = ["Comparison", "compare", "compare_evaluations"]

OVERLAP_DEPTH = 10
INTERVALS = (
    "p-values are of paired randomisation tests, corrected by Holm; the interval of a difference is a bootstrap "
    "interval over queries at the same corrected level, so that both say the same."
)


@dataclass(frozen=True)
class Comparison:
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

    @property
    def best(self) -> str:
        """Name the method with the highest mean; the quicker one between equal means."""
        return min(self.evaluations, key=lambda name: (-self.evaluations[name].means[self.metric], self.cost(name)))

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

    @property
    def recommendation(self) -> str:
        """Say in two sentences what to use, with the figures behind it."""
        from genrail.evaluation.recommendation import recommend

        return recommend(self)

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

    def table(self) -> str:
        """Lay the comparison out for a terminal."""
        return "\n".join([text_table(*self.rows()), "", self.recommendation, *self.remarks()])

    def to_markdown(self) -> str:
        """Lay the comparison out in Markdown."""
        tables = [self.rows(), self.cost_rows(), self.slice_rows()]
        shown = [markdown_table(*table) for table in tables if table[1]]
        return "\n\n".join([*shown, INTERVALS, self.recommendation, *self.remarks()]) + "\n"

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
        rows = [[row["slice"], str(row["queries"]), *[f"{row['means'][name]:.4f}" for name in names]] for row in found]
        return [f"{self.metric} over", "queries", *names], rows

    def remarks(self) -> list[str]:
        """List what to know beside the table, one sentence each: choices, traps, notes, failures."""
        notes = dict.fromkeys(note for evaluation in self.evaluations.values() for note in evaluation.notes)
        return [
            *self.choices,
            *[f"Trap: {trap}." for trap in self.traps],
            *[f"Note: {note}." for note in notes],
            *[f"Failed: {name}: {message}" for name, message in self.failures.items()],
        ]

    def to_dict(self) -> dict[str, Any]:
        """Turn the comparison into plain values for JSON."""
        return {
            "metric": self.metric,
            "queries": len(self.queries),
            "best": self.best,
            "cheapest": self.cheapest,
            "recommendation": self.recommendation,
            "methods": {
                name: {**evaluation.to_dict(), "interval": self.intervals[name].to_dict()}
                for name, evaluation in self.evaluations.items()
            },
            "against_best": {name: test.to_dict() for name, test in self.against_best.items()},
            "against_cheapest": {name: test.to_dict() for name, test in self.against_cheapest.items()},
            "overlap": {first: dict(row) for first, row in self.overlap().items()},
            "slices": slice_means(self.evaluations, self.metric, self.slices),
            "costs": {name: cost.to_dict() for name, cost in self.costs.items()},
            "calibration": {
                name: calibration(evaluation.run, self.qrels).to_dict()
                for name, evaluation in self.evaluations.items()
                if evaluation.run is not None and evaluation.counts.hits
            },
            "choices": list(self.choices),
            "traps": list(self.traps),
            "failures": dict(self.failures),
        }

    def write_json(self, path: str | Path) -> None:
        """Write `to_dict` as JSON."""
        Path(path).write_text(json.dumps(self.to_dict(), ensure_ascii=False, indent=1), encoding="utf-8")

    def write_markdown(self, path: str | Path) -> None:
        """Write `to_markdown`."""
        Path(path).write_text(self.to_markdown(), encoding="utf-8")

    def write_html(self, path: str | Path) -> None:
        """Write a report in one file that loads nothing from anywhere."""
        from genrail.evaluation.report import html_report

        Path(path).write_text(html_report(self), encoding="utf-8")

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


def compare(
    retrievers: Sequence[Retriever],
    queries: Queries,
    qrels: Qrels | Mapping[str, Mapping[str, float]],
    *,
    metrics: Sequence[str | Metric] = DEFAULT_METRICS,
    metric: str = "nDCG@10",
    k: int = 100,
    catalog: Catalog | None = None,
    batch_size: int = 32,
    latency_queries: int = LATENCY_SAMPLE,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> Comparison:
    """Ask several retrievers the same queries and tell their differences from noise.

    A method that crashes is reported in `failures`; the others go on.

    Args:
        retrievers: Engines and baselines; two of one name are numbered.
        queries: Query id to words or `Query`.
        qrels: What is relevant.
        metrics: What to measure; the deciding one is added when it is missing.
        metric: The metric that decides.
        k: Hits asked for.
        catalog: To tell valid answers and titles; by default the first that a retriever has.
        batch_size: Queries per call.
        latency_queries: How many queries are asked again one by one to time them.
        seed: Of resamples and sign patterns.
        progress: Called with (method, done, total) after each batch.

    Raises:
        QueryError: A query id given twice, or no query with a relevant item.
        SettingsError: No retriever, or a metric that is unknown or deeper than k.
        GenrailError: Every method crashed.

    Cost: the queries once in batches and `latency_queries` of them once more, for each method; the tests take
    about half a second per pair of methods and 20,000 queries.
    """
    if not retrievers:
        raise SettingsError("there is nothing to compare; give at least one retriever")
    asked = as_queries(queries)
    judgements = qrels if isinstance(qrels, Qrels) else Qrels(qrels)
    measured_metrics = _with_deciding(metrics, metric, k)
    catalog = catalog if catalog is not None else _first_catalog(retrievers)
    evaluations: dict[str, Evaluation] = {}
    failures: dict[str, str] = {}
    for name, retriever in zip(_distinct_names(retrievers), retrievers, strict=True):
        try:
            evaluation = evaluate(
                retriever,
                asked,
                judgements,
                metrics=measured_metrics,
                k=k,
                catalog=catalog,
                batch_size=batch_size,
                latency_queries=latency_queries,
                progress=None if progress is None else _named(progress, name),
            )
            evaluations[name] = replace(evaluation, name=name)
        except Exception as error:  # whatever a method raises, the others must go on
            failures[name] = f"{type(error).__name__}: {error}"
    if not evaluations:
        raise GenrailError("every method failed: " + "; ".join(f"{name}: {why}" for name, why in failures.items()))
    return compare_evaluations(
        evaluations, asked, judgements, metric=metric, failures=failures, catalog=catalog, seed=seed
    )


def compare_evaluations(
    evaluations: Mapping[str, Evaluation],
    queries: Mapping[str, Query],
    qrels: Qrels,
    *,
    metric: str = "nDCG@10",
    failures: Mapping[str, str] | None = None,
    catalog: Catalog | None = None,
    seed: int = 0,
) -> Comparison:
    """Compare evaluations that were made before, all on the same queries.

    Raises:
        SettingsError: The deciding metric was not measured for all.
        ShapeError: The evaluations are on different queries.
    """
    for name, evaluation in evaluations.items():
        if metric not in evaluation.means:
            raise SettingsError(f"{metric} was not measured for {name}; there are {', '.join(evaluation.means)}")
    intervals = {
        name: bootstrap_interval(evaluation.measured.values[metric], seed=seed)
        for name, evaluation in evaluations.items()
    }
    blank = Comparison(evaluations, failures or {}, metric, queries, qrels, intervals, {}, {}, {})
    return replace(
        blank,
        against_best=_family(evaluations, blank.best, metric, seed),
        against_cheapest=_family(evaluations, blank.cheapest, metric, seed),
        titles=_titles(catalog),
        slices=query_slices(queries),
    )


def _family(evaluations: Mapping[str, Evaluation], to: str, metric: str, seed: int) -> dict[str, PairedTest]:
    """Test every other method against one, with Holm's correction over these tests."""
    values = {name: evaluation.measured.values[metric] for name, evaluation in evaluations.items()}
    reference = values.pop(to)
    return paired_tests(values, reference, seed=seed)


def _with_deciding(metrics: Sequence[str | Metric], metric: str, k: int) -> list[Metric]:
    deciding = Metric(metric)
    wanted = [deciding if each == deciding else each for each in parse_metrics(metrics)]
    wanted += [] if deciding in wanted else [deciding]
    for each in wanted:  # before any method runs, so that it is not taken for a crash
        if each.cutoff is not None and each.cutoff > k:
            raise SettingsError(f"{each} looks at {each.cutoff} hits but only k={k} are asked for; raise k")
    return wanted


def _first_catalog(retrievers: Sequence[Retriever]) -> Catalog | None:
    found = (getattr(retriever, "catalog", None) for retriever in retrievers)
    return next((catalog for catalog in found if catalog is not None), None)


def _distinct_names(retrievers: Sequence[Retriever]) -> list[str]:
    names: list[str] = []
    for retriever in retrievers:
        name, number = retriever.name, 2
        while name in names:
            name, number = f"{retriever.name} ({number})", number + 1
        names.append(name)
    return names


def _named(progress: Callable[[str, int, int], None], name: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(name, done, total)


def _titles(catalog: Catalog | None) -> dict[str, str]:
    return {} if catalog is None else dict(zip(catalog.item_ids, catalog.titles, strict=True))


def _shared(first: Mapping[str, set[str]], second: Mapping[str, set[str]]) -> float:
    shares = [
        len(items & second[query_id]) / max(len(items), len(second[query_id]))
        for query_id, items in first.items()
        if items or second.get(query_id)
    ]
    return float(np.mean(shares)) if shares else math.nan
