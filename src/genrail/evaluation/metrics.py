"""Measure runs: metrics are values, measured by ir_measures on scores without ties, kept for each query."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from genrail.errors import MissingPackageError, QueryError, SettingsError, ShapeError
from genrail.evaluation.runs import Qrels, Run

if TYPE_CHECKING:
    from types import ModuleType

    from ir_measures.measures import Measure

__all__ = ["DEFAULT_METRICS", "Measured", "Metric", "measure", "next_item_values", "parse_metrics", "target_ranks"]

DEFAULT_METRICS = ("R@5", "R@10", "R@100", "nDCG@5", "nDCG@10", "RR@100")

FINEST = 6  # decimal places of grades that are told apart

# With one relevant item at rank r (1 for the first) a metric is a function of r alone.
_BY_RANK: dict[str, Callable[[int, int], float]] = {
    "R": lambda rank, cutoff: 1.0,
    "Success": lambda rank, cutoff: 1.0,
    "nDCG": lambda rank, cutoff: 1.0 / math.log2(rank + 1.0),
    "RR": lambda rank, cutoff: 1.0 / rank,
    "AP": lambda rank, cutoff: 1.0 / rank,
    "P": lambda rank, cutoff: 1.0 / cutoff,
}


@dataclass(frozen=True)
class Metric:
    """Name one metric as the field writes it: ``R@10``, ``Recall@10``, ``nDCG@10``, ``RR``, ``MRR@100``, ``AP@100``.

    A metric is a value: it prints as it was typed, and two spellings of one metric are equal.

    Args:
        name: As ir_measures reads it; parameters too, such as ``R(rel=100)@10``.

    Raises:
        SettingsError: A name that ir_measures does not know, or an nDCG, recall or precision without a cutoff.

    >>> Metric("Recall@10") == Metric("R@10"), str(Metric("Recall@10")), Metric("Recall@10").cutoff
    (True, 'Recall@10', 10)
    """

    name: str = field(compare=False)
    key: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", str(_parse(self.name)))

    def __str__(self) -> str:
        return self.name

    @cached_property
    def measure(self) -> Measure:
        """Give the metric as an object of ir_measures."""
        return _parse(self.name)

    @property
    def cutoff(self) -> int | None:
        """Give the number of hits that count, or None for all."""
        cutoff = self.measure.params.get("cutoff")
        return None if cutoff is None else int(cutoff)

    @property
    def kind(self) -> str:
        """Give the metric's family, such as ``nDCG``."""
        return str(self.measure.NAME)


@dataclass(frozen=True)
class Measured:
    """Hold the values of some metrics for each query.

    Args:
        query_ids: The queries that count: those with a relevant item.
        values: Metric name as typed to an array of shape (queries,).
    """

    query_ids: tuple[str, ...]
    values: Mapping[str, npt.NDArray[np.float64]]

    @property
    def means(self) -> dict[str, float]:
        """Average each metric over the queries."""
        return {name: float(values.mean()) if len(values) else math.nan for name, values in self.values.items()}

    def by_query(self, metric: str) -> dict[str, float]:
        """Map each query id to its value.

        Raises:
            SettingsError: The metric was not measured.
        """
        if metric not in self.values:
            raise SettingsError(f"{metric!r} was not measured; there are {', '.join(self.values)}")
        return dict(zip(self.query_ids, self.values[metric].tolist(), strict=True))


def parse_metrics(metrics: Sequence[str | Metric]) -> list[Metric]:
    """Turn names into metrics, refusing the unknown and the repeated."""
    if isinstance(metrics, str):
        raise SettingsError(f"metrics is one string ({metrics!r}); give a list: [{metrics!r}]")
    parsed = [metric if isinstance(metric, Metric) else Metric(metric) for metric in metrics]
    if not parsed:
        raise SettingsError(f"no metrics were given; try {', '.join(DEFAULT_METRICS)}")
    if len(set(parsed)) < len(parsed):
        raise SettingsError(f"a metric was given twice: {', '.join(map(str, parsed))}")
    return parsed


def measure(run: Run, qrels: Qrels, metrics: Sequence[str | Metric] = DEFAULT_METRICS) -> Measured:
    """Measure a run, query by query.

    Only queries with at least one relevant item count, as no answer could score on the others. A query that the run
    does not answer counts 0. A grade of 1 or more is relevant (or what the metric says: ``R(rel=2)@10``); fractions are
    gains for nDCG only; grades below 0 count as 0.

    Args:
        run: What a method answered.
        qrels: What is relevant.
        metrics: Names or `Metric` values.

    Raises:
        QueryError: No query has a relevant item, or grades with more than six decimal places.
        SettingsError: An unknown metric.

    >>> run, qrels = Run({"q": {"a": 3.0, "b": 2.0, "c": 1.0}}), Qrels({"q": {"b": 1}})
    >>> measure(run, qrels, ["R@1", "R@2", "RR"]).means
    {'R@1': 0.0, 'R@2': 1.0, 'RR': 0.5}
    """
    library = _library()
    parsed = parse_metrics(metrics)
    query_ids = qrels.answerable
    if not query_ids:
        raise QueryError(
            f"none of the {len(qrels)} judged queries has a relevant item (a grade of 1 or more); check the grades"
        )
    scale = _scale(qrels)
    judged = {
        query_id: {item: round(max(grade, 0.0) * scale) for item, grade in qrels[query_id].items()}
        for query_id in query_ids
    }
    scores = run.scores()
    answers = {query_id: scores[query_id] for query_id in query_ids if scores.get(query_id)}
    position = {query_id: index for index, query_id in enumerate(query_ids)}
    measures = {metric.name: _scaled(metric, scale) for metric in parsed}
    values = {str(scaled): np.zeros(len(query_ids)) for scaled in measures.values()}
    if answers:
        for result in library.iter_calc(list(measures.values()), judged, answers):
            values[str(result.measure)][position[result.query_id]] = result.value
    return Measured(tuple(query_ids), {name: values[str(scaled)] for name, scaled in measures.items()})


def target_ranks(rows: npt.NDArray[np.int64], targets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Find the rank of each user's one relevant item.

    Args:
        rows: The answers, best first, shape (users, k); -1 where an answer is shorter.
        targets: The relevant row of each user, shape (users,), 0 or more.

    Returns:
        Shape (users,): 1 for the first place, 0 for "not among the k".

    >>> target_ranks(np.array([[4, 7], [7, 4], [1, 2]]), np.array([4, 4, 4])).tolist()
    [1, 2, 0]
    """
    if rows.ndim != 2 or len(rows) != len(targets):
        raise ShapeError(f"rows has shape {rows.shape} but there are {len(targets)} targets; give one row per target")
    if rows.shape[1] == 0:
        return np.zeros(len(targets), dtype=np.int64)
    hit = (rows == targets[:, None]) & (rows >= 0)  # (users, k)
    first = hit.argmax(axis=1)
    return np.where(hit[np.arange(len(hit)), first], first + 1, 0).astype(np.int64)


def next_item_values(
    ranks: npt.NDArray[np.int64], metrics: Sequence[str | Metric] = DEFAULT_METRICS
) -> dict[str, npt.NDArray[np.float64]]:
    """Measure next-item predictions, where each user has one relevant item.

    Equal to `measure`, and fast enough for tens of thousands of users: each metric is a table over ranks.

    Args:
        ranks: From `target_ranks`, shape (users,).
        metrics: R, Success, nDCG, RR, AP or P, each with a cutoff or (RR, AP) without.

    Returns:
        Metric name as typed to values of shape (users,).

    Raises:
        SettingsError: A metric that is not a function of the one rank.

    >>> next_item_values(np.array([1, 3, 0]), ["R@2", "nDCG@10"])["nDCG@10"].tolist()
    [1.0, 0.5, 0.0]
    """
    longest = int(ranks.max(initial=0))
    values = {}
    for metric in parse_metrics(metrics):
        cutoff = metric.cutoff if metric.cutoff is not None else max(longest, 1)
        if metric.kind not in _BY_RANK or set(metric.measure.params) - {"cutoff"}:
            raise SettingsError(f"{metric} is not defined for one relevant item; choose from {', '.join(_BY_RANK)} @ k")
        by_rank = np.zeros(longest + 1)
        for rank in range(1, min(cutoff, longest) + 1):
            by_rank[rank] = _BY_RANK[metric.kind](rank, cutoff)
        values[metric.name] = by_rank[ranks]
    return values


def _scale(qrels: Qrels) -> int:
    """Find the power of ten that makes all grades whole: the tools below read whole numbers only."""
    grades = np.array(sorted({grade for grades in qrels.values() for grade in grades.values()}))
    for power in range(FINEST + 1):
        scaled = grades * 10.0**power
        if np.allclose(scaled, np.round(scaled), rtol=0, atol=1e-6):
            return int(10**power)
    raise QueryError(f"the grades have more than {FINEST} decimal places; round them")


def _scaled(metric: Metric, scale: int) -> Measure:
    """Move what a metric counts as relevant to scaled grades; gains of nDCG need no scale, as it is a ratio."""
    measure = metric.measure
    if scale == 1:
        return measure
    if "gains" in measure.params:
        raise SettingsError(f"{metric} maps whole grades to gains, but the grades are fractions; drop one of the two")
    if "rel" not in measure.SUPPORTED_PARAMS:
        return measure
    return measure(rel=measure.params.get("rel", 1) * scale)


def _library() -> ModuleType:
    try:
        import ir_measures
    except ImportError:
        raise MissingPackageError("ir_measures", "evaluation", "measuring") from None
    library: ModuleType = ir_measures
    return library


def _parse(name: str) -> Measure:
    library = _library()
    try:
        parsed: Measure = library.parse_measure(name)
    except Exception as error:  # ir_measures raises ValueError, NameError, SyntaxError and others for a wrong name
        raise SettingsError(f"{name!r} is not a metric; try {', '.join(DEFAULT_METRICS)} ({error})") from None
    if getattr(parsed, "NAME", None) in ("R", "P", "Success", "nDCG") and parsed.params.get("cutoff") is None:
        raise SettingsError(f"{name!r} has no cutoff; say how many hits count, such as nDCG@10")
    return parsed
