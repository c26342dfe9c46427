"""Compare engines and methods; or one engine with its lanes and with every classical method its catalogue allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from genrail.engine.engine import Engine
from genrail.engine.rivals import Rivals, built_rivals
from genrail.errors import GenrailError, QueryError, SettingsError
from genrail.evaluation import Comparison, Evaluation, HeldOut, Qrels, compare_evaluations, evaluate
from genrail.evaluation import compare as compare_retrievers
from genrail.evaluation.building import BuildCost, folder_bytes
from genrail.evaluation.comparison import NEXT_ITEM
from genrail.evaluation.evaluations import Queries, as_queries, evaluate_next_item
from genrail.evaluation.slices import by_popularity
from genrail.evaluation.splits import leave_last_out
from genrail.evaluation.traps import query_traps
from genrail.finding import Data
from genrail.rng import generator
from genrail.types import Progress, Query, Ranking, Retriever, silent

if TYPE_CHECKING:
    from genrail.catalog import Catalog, Interactions

__all__ = ["compare", "split_queries"]

VALIDATION = 1 / 3  # of the judged queries, to choose settings on
FEWEST = 30  # judged queries: with fewer a third says nothing, and all of them are needed for the test
USERS = 1000  # whose next item is asked for: nDCG@10 of .05 is then known to .006


def compare(
    subject: Engine | Sequence[Retriever],
    queries: Queries | None = None,
    qrels: Qrels | Mapping[str, Mapping[str, float]] | None = None,
    *,
    interactions: Interactions | None = None,
    metric: str = "nDCG@10",
    seed: int = 0,
    trained: Mapping[str, str] | None = None,
    users: int = USERS,
    exclude_seen: bool = True,
    progress: Progress | None = None,
    **options: Any,
) -> Comparison:
    """Compare retrievers on the same queries, and say in two sentences which to use.

    Given several retrievers, these are compared as they are. Given one engine, it is compared with each of its lanes
    and with every classical method that its catalogue allows; where 30 queries or more are judged, settings are chosen
    on a third of them and the figures are of the others. With interactions the methods that read histories are compared
    as well, on each user's last event.

    Args:
        subject: An engine, or several retrievers (engines and baselines) of one catalogue.
        queries: Query id to words or `Query`.
        qrels: What is relevant.
        interactions: Who took what, in order.
        metric: The metric that decides on words.
        seed: Of resampling, and of the queries to choose on.
        trained: Queries that the engine was trained on, if they are known: those asked again are told as a trap.
        users: So many users' last events are asked for, at most.
        exclude_seen: Leave the items of a history out of its answer.
        progress: Called with (stage, done, total).
        options: See `genrail.evaluation.compare`.

    Returns:
        The comparison of search, that of recommendations in its `next_item`; or the latter where no queries are given.

    Raises:
        SettingsError: Nothing to compare on, or a metric that is unknown.
        QueryError: No query has a relevant item.
        GenrailError: Every method crashed.

    Cost: building the methods, seconds to minutes, and asking each all queries; see `genrail.evaluation.compare`.

    >>> from genrail.catalog import Catalog
    >>> shop = Catalog.from_items([{"id": "b0", "title": "red boot"}, {"id": "b1", "title": "old boot"}])
    >>> found = compare(Engine.build(shop, "bm25"), {"q": "red boot"}, {"q": {"b0": 1}})
    >>> {"BM25", "TF-IDF"} <= set(found.evaluations)
    True
    """
    told = progress or silent
    engine = subject if isinstance(subject, Engine) else None
    if (queries is None) != (qrels is None) or (queries is None and interactions is None):
        raise SettingsError("nothing to compare on: give queries and qrels, or interactions, or all of them")
    past: Comparison | None = None
    if interactions is not None:
        if isinstance(subject, Engine):
            rivals = _rivals(subject, interactions, False, seed, told)
        else:
            rivals = Rivals.of(subject)
        past = _next_items(engine, rivals, interactions, seed, users, exclude_seen, told)
    if queries is None or qrels is None:
        assert past is not None
        return past
    judged = qrels if isinstance(qrels, Qrels) else Qrels(qrels)
    if not isinstance(subject, Engine):
        found = compare_retrievers(subject, queries, judged, metric=metric, seed=seed, progress=progress, **options)
    else:
        rivals = _rivals(subject, interactions, True, seed, told)
        found = _search(subject, rivals, as_queries(queries), judged, metric, seed, trained or {}, told, options)
    return replace(found, next_item=past)


def _rivals(engine: Engine, interactions: Interactions | None, words: bool, seed: int, progress: Progress) -> Rivals:
    data = Data(engine.catalog, interactions, text_encoder=engine.encoder, seed=seed)
    return built_rivals(engine, data, words, progress)


def split_queries(
    queries: Mapping[str, Query], qrels: Qrels, seed: int = 0
) -> tuple[dict[str, Query], dict[str, Query]]:
    """Part queries into some to choose on and the others to test on; where few are judged, all are for the test."""
    judged = [query_id for query_id in qrels.answerable if query_id in queries]
    if len(judged) < FEWEST:
        return {}, dict(queries)
    order = generator(seed, "validation queries").permutation(len(judged))
    chosen = {judged[place] for place in order[: round(VALIDATION * len(judged))]}
    validation = {query_id: query for query_id, query in queries.items() if query_id in chosen}
    return validation, {query_id: query for query_id, query in queries.items() if query_id not in chosen}


def _search(
    engine: Engine,
    rivals: Rivals,
    asked: dict[str, Query],
    qrels: Qrels,
    metric: str,
    seed: int,
    trained: Mapping[str, str],
    progress: Progress,
    options: Mapping[str, Any],
) -> Comparison:
    """Choose settings on validation queries, and compare on the others."""
    validation, test = split_queries(asked, qrels, seed)
    chosen, choices = _chosen(rivals, validation, qrels, metric, progress)
    methods: list[Retriever] = [engine, *(Named(method, name) for name, method in chosen.items())]
    found = compare_retrievers(
        methods, test, qrels, metric=metric, catalog=engine.catalog, seed=seed, progress=progress, **options
    )
    costs = {engine.name: BuildCost(None, folder_bytes(engine), None), **rivals.costs}
    return replace(
        found,
        failures={**rivals.failures, **found.failures},
        costs={name: cost for name, cost in costs.items() if name in found.evaluations},
        choices=(_split_sentence(validation, test), *choices, *_lanes_sentence(rivals)),
        traps=query_traps(_words(test), _words(validation), trained, engine.catalog.titles),
        lanes={name: lane for name, lane in rivals.lanes.items() if name in found.evaluations},
    )


def _next_items(
    engine: Engine | None,
    rivals: Rivals,
    interactions: Interactions,
    seed: int,
    users: int,
    exclude_seen: bool,
    progress: Progress,
) -> Comparison:
    """Compare the methods that read histories on each user's last event, for some of the users."""
    methods: dict[str, Retriever] = {**({} if engine is None else {engine.name: engine}), **rivals.methods}
    catalogs = [getattr(method, "catalog", None) for method in methods.values()]
    catalog: Catalog | None = next((one for one in catalogs if one is not None), None)
    if catalog is None:
        raise SettingsError("there is nothing to compare; give at least one retriever that has a catalogue")
    split = leave_last_out(interactions.sequences(catalog), items=len(catalog))
    if not len(split.test):
        raise QueryError("no user has three events or more in this catalogue; there is nothing to test on")
    held_out = split.test.sample(users, seed)
    evaluations, crashed = _asked_each(methods, held_out, catalog, exclude_seen, progress)
    failures = {**rivals.failures, **crashed}
    if not evaluations:
        raise GenrailError("every method failed: " + "; ".join(f"{name}: {why}" for name, why in failures.items()))
    asked, qrels = _as_search(held_out, catalog, exclude_seen)
    comparison = compare_evaluations(evaluations, asked, qrels, failures=failures, catalog=catalog, seed=seed)
    taken = np.bincount(split.train.rows, minlength=len(catalog)).tolist()
    slices = by_popularity({key: qrels.relevant(key) for key in asked}, dict(zip(catalog.item_ids, taken, strict=True)))
    traps = split.traps.sentences()
    traps += [
        f"{name} was trained on every event (--holdout none): its figures flatter it"
        for name, method in methods.items()
        if isinstance(method, Engine) and method.trained_on_everything
    ]
    seen = "left out" if exclude_seen else "kept"
    choices = (f"{len(held_out)} users' last events are asked for, seen items {seen}.", *_lanes_sentence(rivals))
    return replace(
        comparison,
        task=NEXT_ITEM,
        costs=rivals.costs,
        slices=slices,
        choices=choices,
        traps=tuple(traps),
        lanes=rivals.lanes,
    )


def _asked_each(
    methods: Mapping[str, Retriever], held_out: HeldOut, catalog: Catalog, exclude_seen: bool, progress: Progress
) -> tuple[dict[str, Evaluation], dict[str, str]]:
    """Ask each method for the next items; give the evaluations, and the message of each method that crashed."""
    evaluations: dict[str, Evaluation] = {}
    failures: dict[str, str] = {}
    for name, method in methods.items():
        try:
            found = evaluate_next_item(
                method, held_out, catalog, exclude_seen=exclude_seen, progress=partial(progress, name)
            )
            evaluations[name] = replace(found, name=name)
        except Exception as error:  # whatever a method raises, the others must go on
            failures[name] = f"{type(error).__name__}: {error}"
    return evaluations, failures


class Named:
    """Show a method under a name of our own (a `Retriever`)."""

    def __init__(self, method: Retriever, name: str) -> None:
        self.method, self.name = method, name
        self.catalog = getattr(method, "catalog", None)

    def search_batch(self, queries: Sequence[Query], k: int = 10) -> list[Ranking]:
        """Ask the method."""
        return self.method.search_batch(queries, k=k)


def _chosen(
    rivals: Rivals, validation: Mapping[str, Query], qrels: Qrels, metric: str, progress: Progress
) -> tuple[dict[str, Retriever], list[str]]:
    """Of methods that differ in settings alone keep the best on the validation queries, the usual one without any."""
    methods, choices = dict(rivals.methods), []
    for usual in dict.fromkeys(rivals.alternatives.values()):
        others = [name for name, of in rivals.alternatives.items() if of == usual]
        names = [name for name in (usual, *others) if name in methods]
        if len(names) < 2:
            continue
        scores = {}
        for done, name in enumerate(names if validation else ()):
            progress("choosing on validation queries", done, len(names))
            scores[name] = _validated(methods[name], validation, qrels, metric)
        progress("choosing on validation queries", len(names), len(names))
        best = max(names, key=lambda name: scores.get(name, 0.0))
        for name in names:
            if name != best:
                del methods[name]
        shown = ", ".join(f"{name} {score:.4f}" for name, score in scores.items())
        choices.append(f"{best} was taken" + (f" on validation queries: {shown}." if shown else ", the usual setting."))
    return methods, choices


def _validated(method: Retriever, validation: Mapping[str, Query], qrels: Qrels, metric: str) -> float:
    """Measure a method; one that crashes is the worst here, and reported by the test."""
    try:
        return evaluate(method, validation, qrels, metrics=[metric], latency_queries=0).means[metric]
    except Exception:  # whatever a method raises, the others must go on
        return -1.0


def _split_sentence(validation: Mapping[str, Query], test: Mapping[str, Query]) -> str:
    if validation:
        return f"Settings were chosen on {len(validation)} queries, the figures are of the other {len(test)}."
    return f"Fewer than {FEWEST} judged queries: nothing was chosen on them, all figures are of usual settings."


def _lanes_sentence(rivals: Rivals) -> tuple[str, ...]:
    if not rivals.lanes:
        return ()
    engine = next(iter(rivals.lanes.values()))[0]
    names = ", ".join(rivals.lanes)
    return (f"Lanes of {engine}, each asked by itself: {names}.",)


def _as_search(held_out: HeldOut, catalog: Catalog, exclude_seen: bool) -> tuple[dict[str, Query], Qrels]:
    """Write each case as the query that `evaluate_next_item` asks, with its one right item."""
    ids = np.asarray(catalog.item_ids, dtype=object)
    cases = range(len(held_out))
    asked = {
        str(index): Query(history=ids[held_out.history(index)].tolist(), exclude_seen=exclude_seen) for index in cases
    }
    return asked, Qrels({str(index): {ids[held_out.targets[index]]: 1.0} for index in cases})


def _words(queries: Mapping[str, Query]) -> dict[str, str]:
    return {query_id: query.text for query_id, query in queries.items() if query.text}
