"""Measure a ranker on what a first stage found. Shared by the recipes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from folders import progress

from genrail import Engine
from genrail.evaluation.significance import paired_test
from genrail.finders.fused import Fused
from genrail.finding import Edition, Scorer, resolve
from genrail.ranking.mixing import Mixture
from genrail.ranking.second_look import Look, cross_fitted
from genrail.types import Query

RRF = "RRF(BM25, dense)"


def plain_fusions(engine: Engine) -> dict[str, Engine]:
    """Make two plain fusions of the lanes BM25 and dense of an engine, with which its own is compared."""
    finder = engine.edition.finder
    assert isinstance(finder, Fused)
    equal = Mixture.prior({"bm25": 1.0, "dense": 1.0})
    ranks = replace(equal, standing=equal.place, place=equal.standing)  # weights of reciprocal ranks alone
    return {
        name: Engine(Edition(engine.catalog, finder.replaced(mixtures=dict.fromkeys(finder.mixtures, mixture))))
        for name, mixture in {"BM25 + dense": equal, RRF: ranks}.items()
    }


def ranked(
    name: str,
    scorer: Scorer,
    first: Engine,
    asked: Mapping[str, Query],
    qrels: Mapping[str, Mapping[str, float]],
    depth: int,
    seed: int,
) -> dict[str, Any]:
    """Let a scorer look again at the best items; its weight is learnt on the other folds of the queries, and shrunk."""
    catalog, edition = first.catalog, Edition(first.catalog, first.edition.finder)
    rankings = first.search_batch(list(asked.values()), k=depth)
    looks, started = [], time.process_time()
    for (key, query), ranking in zip(asked.items(), rankings, strict=True):
        progress(f"ranking by {name}", len(looks), len(asked))
        second = scorer.score(resolve(query, catalog, edition.filters), catalog.rows(ranking.item_ids), catalog)
        scores = np.array([hit.score for hit in ranking])
        gains = np.array([max(0.0, qrels[key].get(item_id, 0.0)) for item_id in ranking.item_ids])
        looks.append(Look.of(scores, second, gains, list(qrels[key].values())))
    seconds = (time.process_time() - started) / len(asked)
    base, alone = (np.array([look.ndcg(weight) for look in looks]) for weight in (0.0, 1.0))
    mixed, weights = cross_fitted(looks, seed=seed)
    told = {"scorer": name, "first stage": round(float(base.mean()), 4), "alone": round(float(alone.mean()), 4)}
    told |= {"mixed": round(float(mixed.mean()), 4), "weights": weights}
    told |= {"difference": str(paired_test(mixed, base, seed=seed).difference)}
    hit, hit_base = (np.where(values > 0, 1.0, 0.0) for values in (mixed, base))
    told |= {"hit@10": f"{hit_base.mean():.4f} -> {hit.mean():.4f}"}
    told |= {"hit@10 difference": str(paired_test(hit, hit_base, seed=seed).difference)}
    return {**told, "seconds": round(seconds, 2)}
