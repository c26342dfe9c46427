"""Evaluate one retriever: quality, validity, coverage and speed, on judged queries or on withheld events."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from genrail.errors import QueryError, SettingsError, UserError
from genrail.evaluation.metrics import DEFAULT_METRICS, Measured, Metric, measure, next_item_values, parse_metrics
from genrail.evaluation.metrics import target_ranks as ranks_of_targets
from genrail.evaluation.runs import Qrels, Run
from genrail.evaluation.splits import HeldOut
from genrail.evaluation.tables import text_table
from genrail.showing import html_text
from genrail.types import Json, Query, Ranking, Retriever

if TYPE_CHECKING:
    from genrail.catalog import Catalog

__all__ = [
    "AnswerCounts",
    "Evaluation",
    "Latency",
    "Progress",
    "Queries",
    "as_queries",
    "evaluate",
    "evaluate_next_item",
    "judgement_notes",
]

Progress = Callable[[int, int], None]  # called with (done, total)
Queries = Mapping[str, "str | Query"] | Sequence[tuple[str, "str | Query"]]

LATENCY_SAMPLE = 100  # single calls timed; their 99th percentile is then the slowest but one


@dataclass(frozen=True)
class Latency:
    """Hold the time of single queries in milliseconds, one call at a time, after a warm-up call.

    Args:
        p50_milliseconds: Half of the queries were quicker.
        p95_milliseconds: 95 % were quicker.
        p99_milliseconds: 99 % were quicker.
        queries: How many calls were timed.
    """

    p50_milliseconds: float
    p95_milliseconds: float
    p99_milliseconds: float
    queries: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency:
        """Summarise the seconds of single calls."""
        p50, p95, p99 = (1000 * float(value) for value in np.percentile(np.asarray(seconds), [50, 95, 99]))
        return cls(p50, p95, p99, len(seconds))


@dataclass
class AnswerCounts:
    """Count what came back, whatever its quality.

    Args:
        queries: Queries asked.
        hits: Hits received.
        unknown: Hits that are not live items of the catalogue; None where no catalogue was given to check against.
        repeated: Hits that came before in the same answer; they were dropped before measuring.
        exhausted: Answers marked as "nothing more is allowed".
        empty: Answers without a single hit.
        failed: Queries that the method refused; they count 0.
        catalog_size: Live items, or None.
        seen: The different items that were answered, live ones only where a catalogue was given.
    """

    queries: int = 0
    hits: int = 0
    unknown: int | None = None
    repeated: int = 0
    exhausted: int = 0
    empty: int = 0
    failed: int = 0
    catalog_size: int | None = None
    seen: set[str] = field(default_factory=set, repr=False)

    @property
    def valid_share(self) -> float | None:
        """Give the share of hits that are live items of the catalogue."""
        return None if self.unknown is None else 1.0 - self.unknown / max(self.hits, 1)

    @property
    def distinct_share(self) -> float:
        """Give the share of hits that did not come before in the same answer."""
        return 1.0 - self.repeated / max(self.hits, 1)

    @property
    def coverage(self) -> float | None:
        """Give the share of the catalogue that was answered at least once."""
        if not self.catalog_size:
            return None
        return len(self.seen) / self.catalog_size

    def add(self, ranking: Ranking, live: frozenset[str] | None) -> None:
        """Count one answer."""
        ids = ranking.item_ids
        self.queries += 1
        self.hits += len(ids)
        self.repeated += len(ids) - len(set(ids))
        self.exhausted += ranking.exhausted
        self.empty += not ids
        known = ids if live is None else [item_id for item_id in ids if item_id in live]
        self.seen.update(known)
        if live is not None:
            self.unknown = (self.unknown or 0) + len(ids) - len(known)

    def to_dict(self) -> dict[str, Json]:
        """Turn the counts and shares into plain values for JSON."""
        return {
            "queries": self.queries,
            "hits": self.hits,
            "valid_share": self.valid_share,
            "distinct_share": self.distinct_share,
            "coverage": self.coverage,
            "exhausted": self.exhausted,
            "empty": self.empty,
            "failed": self.failed,
        }


@dataclass(frozen=True)
class Evaluation:
    """Hold how well one retriever did.

    Args:
        name: The retriever's name.
        k: Hits asked for.
        measured: Metric values for each query.
        counts: Validity, coverage, exhausted and failed answers.
        seconds: Wall-clock time of all batches.
        latency: Time of single queries, or None when it was not measured.
        notes: What the reader should know: unknown items in the judgements, queries without any, traps of a split.
        run: The answers, or None for next-item evaluation (tens of thousands of users).
    """

    name: str
    k: int
    measured: Measured
    counts: AnswerCounts
    seconds: float
    latency: Latency | None = None
    notes: tuple[str, ...] = ()
    run: Run | None = None

    @property
    def means(self) -> dict[str, float]:
        """Average each metric over the queries that count."""
        return self.measured.means

    @property
    def queries_per_second(self) -> float:
        """Give the throughput in batches."""
        return self.counts.queries / self.seconds if self.seconds > 0 else math.inf

    def to_dict(self) -> dict[str, Json]:
        """Turn the evaluation into plain values for JSON, without the values of single queries."""
        return {
            "name": self.name,
            "k": self.k,
            "queries": len(self.measured.query_ids),
            "metrics": self.means,
            "answers": self.counts.to_dict(),
            "seconds": self.seconds,
            "queries_per_second": self.queries_per_second,
            "latency": None if self.latency is None else dict(self.latency.__dict__),
            "notes": list(self.notes),
        }

    def table(self) -> str:
        """Lay the evaluation out for a terminal."""
        rows = [[name, f"{value:.4f}"] for name, value in self.means.items()]
        rows.append(["queries", str(len(self.measured.query_ids))])
        if self.counts.valid_share is not None:
            rows.append(["valid answers", f"{self.counts.valid_share:.2%}"])
        rows.append(["distinct answers", f"{self.counts.distinct_share:.2%}"])
        if self.counts.coverage is not None:
            rows.append(["catalogue coverage", f"{self.counts.coverage:.2%}"])
        rows.append(["queries per second", f"{self.queries_per_second:.0f}"])
        if self.latency is not None:
            rows.append(["p50 / p95 / p99 ms", " / ".join(f"{value:.1f}" for value in self._percentiles(self.latency))])
        return "\n".join([text_table([self.name, ""], rows), *[f"note: {note}" for note in self.notes]])

    def __repr__(self) -> str:
        means = ", ".join(f"{name} {value:.4f}" for name, value in self.means.items())
        return f"Evaluation({self.name}, {len(self.measured.query_ids)} queries: {means})"

    def _repr_html_(self) -> str:
        """Write the table, for notebooks."""
        return html_text(self.table())

    @staticmethod
    def _percentiles(latency: Latency) -> tuple[float, float, float]:
        return latency.p50_milliseconds, latency.p95_milliseconds, latency.p99_milliseconds


def evaluate(
    retriever: Retriever,
    queries: Queries,
    qrels: Qrels | Mapping[str, Mapping[str, float]],
    *,
    metrics: Sequence[str | Metric] = DEFAULT_METRICS,
    k: int = 100,
    catalog: Catalog | None = None,
    batch_size: int = 32,
    latency_queries: int = LATENCY_SAMPLE,
    progress: Progress | None = None,
) -> Evaluation:
    """Ask a retriever all queries and measure its answers.

    A query that the retriever refuses counts 0 and is reported. Judged queries that are not asked do not count.

    Args:
        retriever: Whatever answers `Query` objects.
        queries: Query id to words or `Query`; or pairs of these.
        qrels: What is relevant.
        metrics: Names or `Metric` values; none may look deeper than k.
        k: Hits asked for.
        catalog: To tell valid answers and coverage; by default the retriever's own ``catalog``, if it has one.
        batch_size: Queries per call of ``search_batch``.
        latency_queries: How many queries are asked again one by one to time them; 0 for none.
        progress: Called with (done, total) queries after each batch.

    Raises:
        QueryError: A query id given twice, no query with a relevant item, or every query refused.
        SettingsError: An unknown metric, or one with a cutoff above k.

    >>> class Constant:
    ...     name = "constant"
    ...     def search_batch(self, queries, k=10):
    ...         return [Ranking((Hit("a", "A", 1.0, 1),), exhausted=True) for _ in queries]
    >>> from genrail.types import Hit
    >>> evaluate(Constant(), {"q1": "first", "q2": "second"}, {"q1": {"a": 1}, "q2": {"b": 1}}, metrics=["R@10"]).means
    {'R@10': 0.5}
    """
    parsed = _check_settings(metrics, k, batch_size)
    asked = as_queries(queries)
    judgements = qrels if isinstance(qrels, Qrels) else Qrels(qrels)
    catalog = catalog if catalog is not None else getattr(retriever, "catalog", None)
    counted = Qrels({query_id: grades for query_id, grades in judgements.items() if query_id in asked})
    if not counted.answerable:
        raise QueryError(
            f"none of the {len(asked)} queries has a relevant item in the judgements of {len(judgements)} queries; "
            "check that both use the same query ids"
        )
    counts = _counts(catalog)
    live = _live_ids(catalog)
    rankings: dict[str, Ranking] = {}
    started = time.perf_counter()
    refused = _ask_all(retriever, asked, k, batch_size, rankings.__setitem__, progress)
    seconds = time.perf_counter() - started
    for ranking in rankings.values():
        counts.add(ranking, live)
    counts.failed = len(refused)
    run = Run.from_rankings(rankings, name=retriever.name)
    return Evaluation(
        name=retriever.name,
        k=k,
        measured=measure(run, counted, parsed),
        counts=counts,
        seconds=seconds,
        latency=_time_singles(retriever, [asked[key] for key in asked if key not in refused], k, latency_queries),
        notes=(*judgement_notes(asked, judgements, live), *_refusal_notes(refused)),
        run=run,
    )


def evaluate_next_item(
    retriever: Retriever,
    held_out: HeldOut,
    catalog: Catalog,
    *,
    exclude_seen: bool = True,
    metrics: Sequence[str | Metric] = DEFAULT_METRICS,
    k: int = 100,
    batch_size: int = 256,
    latency_queries: int = LATENCY_SAMPLE,
    progress: Progress | None = None,
) -> Evaluation:
    """Ask a retriever for each user's next item, ranking the full catalogue.

    Tables of this task are only comparable when both exclude the items of the history or both keep them; call this
    twice to report both. The name of the evaluation says which it was.

    Args:
        retriever: Whatever answers `Query` objects with a history.
        held_out: `Split.validation` or `Split.test`.
        catalog: The catalogue that the rows of the split belong to.
        exclude_seen: Leave the items of the history out of the answers.
        metrics: R, nDCG, RR, AP, P or Success at cutoffs up to k.
        k: Hits asked for.
        batch_size: Users per call of ``search_batch``.
        latency_queries: How many users are asked again one by one to time them; 0 for none.
        progress: Called with (done, total) users after each batch.

    Raises:
        QueryError: The split tests no user.
        SettingsError: A metric that is not defined for one relevant item, or one with a cutoff above k.
    """
    parsed = _check_settings(metrics, k, batch_size)
    if not len(held_out):
        raise QueryError("the split tests no user; next-item evaluation needs users with at least three events")
    ids = np.asarray(catalog.item_ids, dtype=object)
    asked = {
        str(index): Query(history=ids[held_out.history(index)].tolist(), exclude_seen=exclude_seen)
        for index in range(len(held_out))
    }
    row_of = {ids[row]: row for row in np.flatnonzero(catalog.live).tolist()}
    counts, live = _counts(catalog), frozenset(row_of)
    rows = np.full((len(held_out), k), -1, dtype=np.int64)

    def keep(index: str, ranking: Ranking) -> None:
        answered = list(dict.fromkeys(ranking.item_ids))[:k]
        rows[int(index), : len(answered)] = [row_of.get(item_id, -1) for item_id in answered]
        counts.add(ranking, live)

    started = time.perf_counter()
    refused = _ask_all(retriever, asked, k, batch_size, keep, progress)
    seconds = time.perf_counter() - started
    counts.failed = len(refused)
    values = next_item_values(ranks_of_targets(rows, held_out.targets), parsed)
    return Evaluation(
        name=f"{retriever.name} (seen items {'excluded' if exclude_seen else 'kept'})",
        k=k,
        measured=Measured(tuple(asked), values),
        counts=counts,
        seconds=seconds,
        latency=_time_singles(retriever, list(asked.values()), k, latency_queries),
        notes=tuple(_refusal_notes(refused)),
    )


def as_queries(queries: Queries) -> dict[str, Query]:
    """Turn words into `Query` objects, refusing ids given twice.

    >>> as_queries([("q1", "trail shoes")])["q1"].text
    'trail shoes'
    """
    pairs: Iterable[tuple[str, str | Query]] = queries.items() if isinstance(queries, Mapping) else queries
    asked: dict[str, Query] = {}
    for query_id, query in pairs:
        if str(query_id) in asked:
            raise QueryError(f"query id {query_id!r} was given twice; ids must be unique")
        asked[str(query_id)] = query if isinstance(query, Query) else Query(query)
    if not asked:
        raise QueryError("no queries were given; give at least one")
    return asked


def judgement_notes(queries: Mapping[str, Query], qrels: Qrels, live: frozenset[str] | None) -> list[str]:
    """Say what is odd about the judgements, one sentence each."""
    answerable = set(qrels.answerable)
    unjudged = sum(query_id not in qrels for query_id in queries)
    hopeless = sum(query_id in qrels and query_id not in answerable for query_id in queries)
    not_asked = len(answerable - set(queries))
    relevant = [item for query_id in queries for item in qrels.relevant(query_id)]
    missing = 0 if live is None else sum(item not in live for item in relevant)
    found = [
        (unjudged, f"{unjudged} of {len(queries)} queries have no judgements and do not count"),
        (hopeless, f"{hopeless} of {len(queries)} queries have judgements but no relevant item and do not count"),
        (not_asked, f"{not_asked} judged queries were not asked and do not count"),
        (missing, f"{missing} of {len(relevant)} relevant items are not in the catalogue: no method can find them"),
        (qrels.negative, f"{qrels.negative} grades are below 0 and count as 0"),
    ]
    return [sentence for present, sentence in found if present]


def _check_settings(metrics: Sequence[str | Metric], k: int, batch_size: int) -> list[Metric]:
    if k < 1 or batch_size < 1:
        raise SettingsError(f"k is {k} and batch_size {batch_size}; both must be 1 or more")
    parsed = parse_metrics(metrics)
    for metric in parsed:
        if metric.cutoff is not None and metric.cutoff > k:
            raise SettingsError(f"{metric} looks at {metric.cutoff} hits but only k={k} are asked for; raise k")
    return parsed


def _live_ids(catalog: Catalog | None) -> frozenset[str] | None:
    if catalog is None:
        return None
    ids = catalog.item_ids
    return frozenset(ids[row] for row in np.flatnonzero(catalog.live))


def _counts(catalog: Catalog | None) -> AnswerCounts:
    if catalog is None:
        return AnswerCounts()
    live: npt.NDArray[np.bool_] = catalog.live
    return AnswerCounts(unknown=0, catalog_size=int(live.sum()))


def _ask_all(
    retriever: Retriever,
    asked: Mapping[str, Query],
    k: int,
    batch_size: int,
    keep: Callable[[str, Ranking], None],
    progress: Progress | None,
) -> dict[str, str]:
    """Ask in batches, hand each answer to `keep`, and return the refused queries with the reasons."""
    refused: dict[str, str] = {}
    keys = list(asked)
    for start in range(0, len(keys), batch_size):
        batch = keys[start : start + batch_size]
        for key, ranking in zip(batch, _ask_batch(retriever, batch, asked, k, refused), strict=True):
            keep(key, ranking)
        if progress is not None:
            progress(min(start + batch_size, len(keys)), len(keys))
    if len(refused) == len(keys):
        raise QueryError(f"{retriever.name} refused all {len(keys)} queries; the first because: {refused[keys[0]]}")
    return refused


def _ask_batch(
    retriever: Retriever, batch: list[str], asked: Mapping[str, Query], k: int, refused: dict[str, str]
) -> list[Ranking]:
    try:
        return _answers(retriever, [asked[key] for key in batch], k)
    except UserError:
        rankings = []
        for key in batch:  # one bad query must not cost its neighbours their answers
            try:
                rankings += _answers(retriever, [asked[key]], k)
            except UserError as error:
                refused[key] = str(error)
                rankings.append(Ranking())
        return rankings


def _answers(retriever: Retriever, queries: list[Query], k: int) -> list[Ranking]:
    rankings = retriever.search_batch(queries, k=k)
    if len(rankings) != len(queries):
        raise RuntimeError(f"{retriever.name} gave {len(rankings)} rankings for {len(queries)} queries")
    return rankings


def _refusal_notes(refused: Mapping[str, str]) -> list[str]:
    if not refused:
        return []
    query_id, reason = next(iter(refused.items()))
    return [f"{len(refused)} queries were refused and count 0; the first, {query_id!r}: {reason}"]


def _time_singles(retriever: Retriever, queries: list[Query], k: int, sample: int) -> Latency | None:
    if sample < 1 or not queries:
        return None
    chosen = [queries[index] for index in np.linspace(0, len(queries) - 1, min(sample, len(queries)), dtype=int)]
    retriever.search_batch(chosen[:1], k=k)  # warm-up: the first call compiles and loads
    seconds = []
    for query in chosen:
        started = time.perf_counter()
        retriever.search_batch([query], k=k)
        seconds.append(time.perf_counter() - started)
    return Latency.of(seconds)
