"""Which methods a catalogue allows, with settings chosen on a part of the user's judged queries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from genrail.evaluation import Comparison, HeldOut, Qrels, compare, compare_evaluations, evaluate
from genrail.evaluation.building import BuildCost, Candidate, build_all, folder_bytes
from genrail.evaluation.evaluations import as_queries, evaluate_next_item
from genrail.evaluation.slices import by_popularity
from genrail.evaluation.splits import leave_last_out
from genrail.evaluation.traps import query_traps
from genrail.rng import generator
from genrail.types import Query, Retriever

if TYPE_CHECKING:
    from genrail.catalog import Catalog, Interactions
    from genrail.engine import Engine
    from genrail.models.text_encoder import Encoder

__all__ = ["compare_next_items", "compare_search", "split_queries"]

Progress = Callable[[str, int, int], None]
Judgements = Mapping[str, Mapping[str, float]]
Methods = dict[str, Retriever]

VALIDATION = 1 / 3  # of the judged queries, to choose settings and weights on
FEWEST = 30  # judged queries: with fewer a third says nothing, and all of them are needed for the test
BM25_SETTINGS = ((1.5, 0.75), (0.9, 0.4))  # Lucene's habit, and Anserini's for passages
LATE_ITEMS = 20_000  # late interaction reads every token of the catalogue for each query
USERS = 1000  # whose next item is asked for


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


def compare_search(
    engine: Engine,
    queries: Mapping[str, str],
    judgements: Judgements,
    *,
    interactions: Interactions | None = None,
    metric: str = "nDCG@10",
    seed: int = 0,
    trained: Mapping[str, str] | None = None,
    progress: Progress,
) -> Comparison:
    """Build every method that the catalogue allows, choose on validation queries, and compare on the others.

    A method that crashes, whether it is built or asked, is reported; the others go on. `trained` are queries that the
    engine was trained on, if they are known; those asked again are reported as a trap.
    """
    asked, qrels = as_queries(queries), Qrels(judgements)
    validation, test = split_queries(asked, qrels, seed)
    built = build_all(_candidates(engine.catalog, engine.encoder, interactions, seed), progress)
    methods: Methods = {engine.name: engine, **built.retrievers}
    costs: dict[str, BuildCost] = {engine.name: BuildCost(None, folder_bytes(engine), None), **built.costs}
    failures = dict(built.failures)
    scores = _validated(methods, validation, qrels, metric, failures, progress)
    methods, choices = _one_of_each_kind(methods, scores)
    hybrid, sentence = _hybrid(methods, scores, validation, qrels, seed)
    if hybrid is not None:
        methods[hybrid.name] = hybrid
    comparison = compare(
        list(methods.values()), test, qrels, metric=metric, catalog=engine.catalog, seed=seed, progress=progress
    )
    named = {method.name: costs[name] for name, method in methods.items() if name in costs}
    return replace(
        comparison,
        failures={**failures, **comparison.failures},
        costs=named,
        choices=(_split_sentence(validation, test), *choices, sentence),
        traps=query_traps(_words(test), _words(validation), trained or {}, engine.catalog.titles),
    )


def compare_next_items(engine: Engine, interactions: Interactions, *, seed: int = 0, progress: Progress) -> Comparison:
    """Compare the methods that read histories on each user's last event, for some of the users."""
    from genrail.finders import TFIDF, Cooccurrence, Dense, ItemKNN, Popularity

    catalog = engine.catalog
    split = leave_last_out(interactions.sequences(catalog), items=len(catalog))
    held_out = split.test.sample(USERS, seed)
    candidates = [
        Candidate("Popularity", lambda: Popularity(catalog, split.train, seed=seed)),
        Candidate("Item-kNN", lambda: ItemKNN(catalog, split.train, seed=seed)),
        Candidate("Co-occurrence", lambda: Cooccurrence(catalog, split.train, seed=seed)),
        Candidate("TF-IDF content", lambda: TFIDF(catalog, seed=seed)),
    ]
    encoder = engine.encoder
    if encoder is not None:
        candidates.append(Candidate("Dense content", lambda: Dense(catalog, encoder, seed=seed)))
    built = build_all(candidates, progress)
    evaluations, failures = {}, dict(built.failures)
    for name, method in {engine.name: engine, **built.retrievers}.items():
        try:
            found = evaluate_next_item(method, held_out, catalog, progress=partial(progress, name))
            evaluations[name] = replace(found, name=name)
        except Exception as error:  # whatever a method raises, the others must go on
            failures[name] = f"{type(error).__name__}: {error}"
    asked, qrels = _as_search(held_out, catalog)
    comparison = compare_evaluations(evaluations, asked, qrels, failures=failures, catalog=catalog, seed=seed)
    taken = np.bincount(split.train.rows, minlength=len(catalog)).tolist()
    slices = by_popularity({key: qrels.relevant(key) for key in asked}, dict(zip(catalog.item_ids, taken, strict=True)))
    traps = split.traps.sentences()
    if engine.trained_on_everything:
        traps.append(f"{engine.name} was trained on every event (--holdout none): its figures flatter it")
    choices = (f"{len(held_out)} users' last events are asked for.",)
    return replace(comparison, costs=built.costs, slices=slices, choices=choices, traps=tuple(traps))


def _candidates(
    catalog: Catalog, encoder: Encoder | None, interactions: Interactions | None, seed: int
) -> list[Candidate]:
    from genrail.finders import BM25, TFIDF, Dense, LateInteraction, Popularity
    from genrail.models.encoders import LazyEncoder

    candidates = [
        Candidate(f"BM25 (k1={k1}, b={b})", partial(BM25, catalog, k1=k1, b=b, seed=seed)) for k1, b in BM25_SETTINGS
    ]
    candidates.append(Candidate("TF-IDF", lambda: TFIDF(catalog, seed=seed)))
    if encoder is not None:
        candidates.append(Candidate("Dense", lambda: Dense(catalog, encoder, seed=seed)))
    if encoder is not None and len(catalog) <= LATE_ITEMS:
        tokens = LazyEncoder.of(encoder)
        candidates.append(Candidate("Late interaction", lambda: LateInteraction(catalog, tokens, seed=seed)))
    if interactions is not None:
        candidates.append(
            Candidate("Popularity", lambda: Popularity(catalog, interactions.sequences(catalog), seed=seed))
        )
    return candidates


def _validated(
    methods: Methods,
    validation: Mapping[str, Query],
    qrels: Qrels,
    metric: str,
    failures: dict[str, str],
    progress: Progress,
) -> dict[str, float]:
    """Measure each method on the validation queries, dropping those that crash; nothing without such queries."""
    scores: dict[str, float] = {}
    if not validation:
        return scores
    for done, (name, method) in enumerate(list(methods.items())):
        progress("choosing on validation queries", done, len(methods))
        try:
            scores[name] = evaluate(method, validation, qrels, metrics=[metric], latency_queries=0).means[metric]
        except Exception as error:  # whatever a method raises, the others must go on
            failures[name] = f"{type(error).__name__}: {error}"
            del methods[name]
    progress("choosing on validation queries", len(scores), max(1, len(scores)))
    return scores


def _one_of_each_kind(methods: Methods, scores: Mapping[str, float]) -> tuple[Methods, list[str]]:
    """Keep the better BM25: by validation, or the first where nothing was validated."""
    kinds = [name for name in methods if name.startswith("BM25 (")]
    if not kinds:
        return methods, []
    best = max(kinds, key=lambda name: scores.get(name, 0.0))
    kept = {name: method for name, method in methods.items() if name not in kinds or name == best}
    shown = ", ".join(f"{name} {scores[name]:.4f}" for name in kinds if name in scores)
    return kept, [f"{best} was taken" + (f" on validation queries: {shown}." if shown else ", the usual setting.")]


def _hybrid(
    methods: Methods, scores: Mapping[str, float], validation: Mapping[str, Query], qrels: Qrels, seed: int
) -> tuple[Retriever | None, str]:
    """Fuse the methods that read words: weights learnt on validation, equal reciprocal ranks without it."""
    from genrail.ranking.fusion import Fusion
    from genrail.ranking.learning import learn_fusion

    parts = [method for name, method in methods.items() if name != "Popularity"]
    if len(parts) < 2:
        return None, "There is no hybrid: fewer than two methods read words."
    if not scores:
        chosen = [method for method in parts if method.name in ("BM25", "Dense")]
        return Fusion(chosen if len(chosen) == 2 else parts[:2], name="Hybrid"), "The hybrid has equal weights."
    hybrid = learn_fusion(parts, validation, qrels, seed=seed)
    weights = ", ".join(f"{part.name} {weight:.2f}" for part, weight in zip(parts, hybrid.weights, strict=True))
    return hybrid, f"The hybrid's weights were learnt on validation queries: {weights}."


def _split_sentence(validation: Mapping[str, Query], test: Mapping[str, Query]) -> str:
    if validation:
        return f"Settings were chosen on {len(validation)} queries, the figures are of the other {len(test)}."
    return f"Fewer than {FEWEST} judged queries: nothing was chosen on them, all figures are of usual settings."


def _as_search(held_out: HeldOut, catalog: Catalog) -> tuple[dict[str, Query], Qrels]:
    """Write each case as the query that `evaluate_next_item` asks, with its one right item."""
    ids = np.asarray(catalog.item_ids, dtype=object)
    cases = range(len(held_out))
    asked = {str(index): Query(history=ids[held_out.history(index)].tolist()) for index in cases}
    return asked, Qrels({str(index): {ids[held_out.targets[index]]: 1.0} for index in cases})


def _words(queries: Mapping[str, Query]) -> dict[str, str]:
    return {query_id: query.text for query_id, query in queries.items() if query.text}
