"""Compare retrievers on the same queries, and say in two sentences which to use."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from genrail.errors import GenrailError, SettingsError
from genrail.evaluation.calibration import calibration
from genrail.evaluation.differences import INTERVALS, Differences
from genrail.evaluation.evaluations import LATENCY_SAMPLE, Evaluation, Queries, as_queries, evaluate
from genrail.evaluation.interleaving import interleaved
from genrail.evaluation.metrics import DEFAULT_METRICS, Metric, parse_metrics
from genrail.evaluation.recommendation import recommend
from genrail.evaluation.report import html_report
from genrail.evaluation.runs import Qrels
from genrail.evaluation.significance import PairedTest, bootstrap_interval, paired_tests
from genrail.evaluation.slices import query_slices, slice_means
from genrail.evaluation.tables import markdown_table, text_table
from genrail.showing import html_text
from genrail.types import Json, Progress, Query, Retriever

if TYPE_CHECKING:
    from genrail.catalog import Catalog

__all__ = ["NEXT_ITEM", "SEARCH", "Comparison", "compare", "compare_evaluations", "distinct_names"]

SEARCH, NEXT_ITEM = "search", "next item"  # what retrievers are compared at


@dataclass(frozen=True)
class Comparison(Differences):
    """Hold what `compare` found: the differences, what follows from them, and the ways to show them.

    Args:
        task: What was asked: ``search``, or the ``next item`` of histories.
        next_item: How the same methods recommend, where that was compared beside search.
    """

    task: str = SEARCH
    next_item: Comparison | None = None

    @property
    def recommendation(self) -> str:
        """Say in two sentences what to use, with the figures behind it."""
        return recommend(self)

    def table(self) -> str:
        """Lay the comparison out for a terminal."""
        return "\n".join([text_table(*self.rows()), "", self.recommendation, *self.remarks()])

    def __repr__(self) -> str:
        return f"Comparison({', '.join(self.evaluations)}; best by {self.metric}: {self.best})"

    def _repr_html_(self) -> str:
        """Write the table, for notebooks."""
        return html_text(self.table())

    def to_markdown(self) -> str:
        """Lay the comparison out in Markdown."""
        tables = [self.rows(), self.cost_rows(), self.slice_rows()]
        shown = [markdown_table(*table) for table in tables if table[1]]
        return "\n\n".join([*shown, INTERVALS, self.recommendation, *self.remarks()]) + "\n"

    def to_dict(self) -> dict[str, Json]:
        """Turn the comparison into plain values for JSON."""
        return {
            "task": self.task,
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
            "slices": [part._asdict() for part in slice_means(self.evaluations, self.metric, self.slices)],
            "interleaved": {name: test.to_dict() for name, test in self.interleaved.items()},
            "costs": {name: cost.to_dict() for name, cost in self.costs.items()},
            "calibration": {
                name: calibration(evaluation.run, self.qrels).to_dict()
                for name, evaluation in self.evaluations.items()
                if evaluation.run is not None and evaluation.counts.hits
            },
            "choices": list(self.choices),
            "traps": list(self.traps),
            "failures": dict(self.failures),
            "lanes": {name: lane for name, (_, lane) in self.lanes.items()},
            **({} if self.next_item is None else {NEXT_ITEM: self.next_item.to_dict()}),
        }

    def write_json(self, path: str | Path) -> None:
        """Write `to_dict` as JSON."""
        Path(path).write_text(json.dumps(self.to_dict(), ensure_ascii=False, indent=1), encoding="utf-8")

    def write_markdown(self, path: str | Path) -> None:
        """Write `to_markdown`."""
        Path(path).write_text(self.to_markdown(), encoding="utf-8")

    def write_html(self, path: str | Path) -> None:
        """Write a report in one file that loads nothing from anywhere."""
        Path(path).write_text(html_report(self), encoding="utf-8")


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
    interleave: bool = False,
    progress: Progress | None = None,
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
        interleave: Take what is relevant for clicks that were logged, and interleave each method with the best; see
            `genrail.evaluation.interleaving`.
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
    for name, retriever in zip(distinct_names(retrievers), retrievers, strict=True):
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
        evaluations,
        asked,
        judgements,
        metric=metric,
        failures=failures,
        catalog=catalog,
        seed=seed,
        interleave=interleave,
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
    interleave: bool = False,
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
    runs = {name: evaluation.run for name, evaluation in evaluations.items() if evaluation.run is not None}
    return replace(
        blank,
        against_best=_family(evaluations, blank.best, metric, seed),
        against_cheapest=_family(evaluations, blank.cheapest, metric, seed),
        titles=_titles(catalog),
        slices=query_slices(queries),
        interleaved=interleaved(runs, blank.best, qrels, seed=seed) if interleave else {},
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


def distinct_names(retrievers: Sequence[Retriever]) -> list[str]:
    """Name retrievers, numbering those of one name."""
    names: list[str] = []
    for retriever in retrievers:
        name, number = retriever.name, 2
        while name in names:
            name, number = f"{retriever.name} ({number})", number + 1
        names.append(name)
    return names


def _named(progress: Progress, name: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(name, done, total)


def _titles(catalog: Catalog | None) -> dict[str, str]:
    return {} if catalog is None else dict(zip(catalog.item_ids, catalog.titles, strict=True))
