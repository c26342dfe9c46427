"""The lanes of the recommendation table: how each is made, and how its answers are recorded.

A lane is a function from the data to a retriever and, if it was trained, its learning curve. To add one, write the
function and name it in `LANES`.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from recommend_beauty import NativeRecommender, build, show, train

from genrail.catalog import Catalog
from genrail.constraints import Trie
from genrail.evaluation import HeldOut, Split
from genrail.finders import TFIDF, Cooccurrence, CooccurrenceRecipe, Dense, ItemKNN, Popularity
from genrail.finders.sasrec import SASRec, SASRecRecipe
from genrail.models.text_encoder import TextEncoder
from genrail.training.loop import LoopReport
from genrail.types import Hit, Query, Ranking, Retriever

DEPTH = 50  # hits recorded per user, which a hybrid reads; a beam search answers at most as many as it has beams
TIMED = 200  # single requests timed
BEAM = 50
VALIDATION_USERS = 8000  # what hybrids learn their weights on


@dataclass(frozen=True)
class Data:
    """Hold what every lane is made from."""

    catalog: Catalog
    split: Split
    seed: int
    out: Path
    max_seconds: float | None

    def encoder(self) -> TextEncoder:
        """Load the text encoder; vectors of this run are kept beside the figures."""
        (self.out / "vectors").mkdir(parents=True, exist_ok=True)
        return TextEncoder.load(cache=self.out / "vectors")


@dataclass(frozen=True)
class Fitted:
    """Hold a retriever, and its learning curve if it was trained."""

    retriever: Retriever
    curve: list[dict[str, float]] = field(default_factory=list)


def popularity(data: Data) -> Fitted:
    """Count events."""
    return Fitted(Popularity(data.catalog, data.split.train, seed=data.seed))


def item_knn(data: Data) -> Fitted:
    """Compare items by who took them."""
    return Fitted(ItemKNN(data.catalog, data.split.train, seed=data.seed))


def markov(data: Data) -> Fitted:
    """Count direct successors of the last item."""
    settings = CooccurrenceRecipe.first_order()
    return Fitted(Cooccurrence(data.catalog, data.split.train, settings, seed=data.seed))


def cooccurrence(data: Data) -> Fitted:
    """Count pairs within a window."""
    return Fitted(Cooccurrence(data.catalog, data.split.train, seed=data.seed))


def tfidf(data: Data) -> Fitted:
    """Compare words."""
    return Fitted(TFIDF(data.catalog, seed=data.seed))


def minilm(data: Data) -> Fitted:
    """Compare text vectors of titles with attributes, less what all texts have in common."""
    encoder = data.encoder()
    vectors = encoder.encode(data.catalog.texts())
    centred = vectors - vectors.mean(axis=0)
    # On 2,000 to 3,000 validation users of Amazon Beauty, R@10 is .0725 so, .0613 with the mean left in, and .0483
    # with the usual decay of 0.7 too.
    return Fitted(Dense(data.catalog, encoder, vectors=centred, name="MiniLM", decay=0.3, seed=data.seed))


def sasrec(data: Data) -> Fitted:
    """Train SASRec with a softmax over the whole catalogue."""
    targets = max(0, len(data.split.train.rows) - len(data.split.train.offsets) + 1)
    settings = SASRecRecipe.for_size(targets, data.max_seconds)
    made = SASRec(
        data.catalog, data.split.train, settings, validation=data.split.validation, seed=data.seed, progress=show
    )
    return Fitted(made, curve(made.report))


def native(data: Data) -> Fitted:
    """Train the native model on Semantic IDs."""
    model = build(data.catalog, data.split, data.encoder().encode(data.catalog.texts()), data.seed)
    report = train(model, data.split, data.seed, data.max_seconds)
    trie = Trie.from_matrix(model.table.codes(), model.vocab_size)
    return Fitted(NativeRecommender(data.catalog, model, trie, BEAM), curve(report.loop))


def tiger(data: Data) -> Fitted:
    """Train TIGER; on a CPU for half an hour at most, which is far from enough."""
    import torch
    from tiger_beauty import identifiers, training

    from genrail.finders import TIGER

    device = "cuda" if torch.cuda.is_available() else "cpu"
    codes = identifiers(data.catalog, data.seed, data.out / "vectors")
    settings = training(cpu=device == "cpu", max_seconds=data.max_seconds or 1800)
    made = TIGER(
        data.catalog,
        data.split.train,
        codes,
        training=settings,
        beam=BEAM,
        validation=data.split.validation,
        device=device,
        seed=data.seed,
        progress=show,
        checkpoint=data.out / "tiger-checkpoint.safetensors",
    )
    return Fitted(made, [] if made.report is None else curve(made.report))


LANES: dict[str, Callable[[Data], Fitted]] = {
    "Popularity": popularity,
    "Item-kNN": item_knn,
    "Markov": markov,
    "Co-occurrence": cooccurrence,
    "TF-IDF": tfidf,
    "MiniLM": minilm,
    "SASRec": sasrec,
    "Native": native,
    "TIGER": tiger,
}
OPTIONAL = {"TIGER"}  # only where it is asked for: an hour or two on a GPU
# A hybrid is made of the lanes named, where the table has them all.
HYBRIDS = {
    "Hybrid of co-occurrence and MiniLM": ("Co-occurrence", "MiniLM"),
    "Hybrid without training": ("Co-occurrence", "TF-IDF", "MiniLM"),
    "Hybrid of all": ("Co-occurrence", "TF-IDF", "MiniLM", "SASRec", "Native"),
}


def curve(report: LoopReport) -> list[dict[str, float]]:
    """Lay out a learning curve as plain values."""
    return [
        {"epoch": record.epoch, "seconds": record.seconds, "loss": record.loss, **record.metrics}
        for record in report.history
    ]


# --- recorded answers ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recorded:
    """Answer with what a lane answered before (a `Retriever`): a hybrid is made without asking the lanes again."""

    name: str
    catalog: Catalog
    answers: dict[tuple[tuple[str, ...], bool], tuple[np.ndarray, np.ndarray]]
    probabilistic: bool  # scores are log-probabilities

    def search_batch(self, queries: Sequence[Query], k: int = 10) -> list[Ranking]:
        """Give the first k recorded hits of each query."""
        return [self._ranking(*self.answers[tuple(query.history), query.exclude_seen], k) for query in queries]

    def _ranking(self, rows: np.ndarray, scores: np.ndarray, k: int) -> Ranking:
        ids, titles = self.catalog.item_ids, self.catalog.titles
        pairs = enumerate(zip(rows[:k].tolist(), scores[:k].tolist(), strict=True), start=1)
        hits = tuple(
            Hit(ids[row], titles[row], score, rank, score if self.probabilistic else None)
            for rank, (row, score) in pairs
            if row >= 0
        )
        return Ranking(hits, exhausted=len(hits) < k)


def histories(catalog: Catalog, held_out: HeldOut) -> list[tuple[str, ...]]:
    """Give the item ids of each user's history."""
    ids = np.asarray(catalog.item_ids, dtype=object)
    return [tuple(ids[held_out.history(index)].tolist()) for index in range(len(held_out))]


def parts(split: Split, seed: int) -> dict[str, tuple[HeldOut, bool]]:
    """Name what is asked: held-out events, and whether seen items are excluded."""
    return {
        "validation": (split.validation.sample(VALIDATION_USERS, seed), True),
        "test": (split.test, True),
        "test, seen kept": (split.test, False),
    }


def record(name: str, data: Data, asked: dict[str, tuple[HeldOut, bool]]) -> None:
    """Make a lane, ask it everything, and write answers and costs into the output folder."""
    started = time.perf_counter()
    fitted = LANES[name](data)
    fit_seconds = time.perf_counter() - started
    arrays: dict[str, np.ndarray] = {}
    for part, (held_out, exclude_seen) in asked.items():
        queries = [Query(history=past, exclude_seen=exclude_seen) for past in histories(data.catalog, held_out)]
        rows, scores = _ask(fitted.retriever, queries, data.catalog, DEPTH)
        arrays[f"{part} rows"], arrays[f"{part} scores"] = rows, scores
        print(f"{name}: {part} answered", file=sys.stderr, flush=True)
    folder = data.out / "lanes"
    folder.mkdir(parents=True, exist_ok=True)
    facts: dict[str, Any] = {
        "fit seconds": round(fit_seconds, 1),
        "seconds in all": round(time.perf_counter() - started, 1),
        "latency": _latency(fitted.retriever, data),
        "peak memory MiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),  # KiB on Linux
        "scores are log-probabilities": _probabilistic(fitted.retriever, data),
        "curve": fitted.curve,
    }
    np.savez(folder / f"{name}.npz", **arrays)
    (folder / f"{name}.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def replay(name: str, data: Data, asked: dict[str, tuple[HeldOut, bool]]) -> tuple[Recorded, dict[str, Any]]:
    """Read what `record` wrote."""
    folder = data.out / "lanes"
    facts = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    answers: dict[tuple[tuple[str, ...], bool], tuple[np.ndarray, np.ndarray]] = {}
    with np.load(folder / f"{name}.npz", allow_pickle=False) as arrays:
        for part, (held_out, exclude_seen) in asked.items():
            rows, scores = arrays[f"{part} rows"], arrays[f"{part} scores"]
            for index, past in enumerate(histories(data.catalog, held_out)):
                answers[past, exclude_seen] = rows[index], scores[index]
    return Recorded(name, data.catalog, answers, facts["scores are log-probabilities"]), facts


def _ask(retriever: Retriever, queries: Sequence[Query], catalog: Catalog, depth: int) -> tuple[np.ndarray, np.ndarray]:
    rows = np.full((len(queries), depth), -1, dtype=np.int32)
    scores = np.zeros((len(queries), depth), dtype=np.float32)
    for start in range(0, len(queries), 256):
        rankings = retriever.search_batch(queries[start : start + 256], k=depth)
        for place, ranking in enumerate(rankings, start=start):
            rows[place, : len(ranking)] = catalog.rows(ranking.item_ids)
            scores[place, : len(ranking)] = [hit.score for hit in ranking]
    return rows, scores


def _probabilistic(retriever: Retriever, data: Data) -> bool:
    (past,) = histories(data.catalog, data.split.validation.sample(1, data.seed))
    (ranking,) = retriever.search_batch([Query(history=past, exclude_seen=False)], k=1)
    return len(ranking) > 0 and ranking[0].log_probability == ranking[0].score


def _latency(retriever: Retriever, data: Data) -> dict[str, float]:
    """Time requests one by one, k = 10, after a warm-up, in milliseconds."""
    users = data.split.validation.sample(TIMED + 10, data.seed + 1)
    seconds = []
    for past in histories(data.catalog, users):
        started = time.perf_counter()
        retriever.search_batch([Query(history=past)], k=10)
        seconds.append(time.perf_counter() - started)
    kept = np.array(seconds[10:] or seconds) * 1000
    return {"p50 ms": float(np.percentile(kept, 50)), "p99 ms": float(np.percentile(kept, 99))}
