"""Drop 5 % of the items from training, add them to the engine afterwards, and measure who finds them.

    python recipes/new_items_beauty.py ../shared/data/amazon_beauty
    python recipes/new_items_beauty.py any/folder --vectors kept --json figures.json

The folder is that of `recommend_beauty.py`, and so is the protocol. The dropped items (a seeded draw) leave
identifiers, training and validation altogether; the trained engine gets them by `Engine.add`. The calibration of new
items is learnt without them as well: a second model does without another 5 % and answers the validation events. Test
events are asked once: *unseen* targets are dropped items, *seen* ones were trained on. Everything ranks the full
catalogue, items of the history left out; "among new" ranks the dropped items only. The text k-NN compares centred
MiniLM vectors of title and attributes with the history, later items counting more; the best of its decays on the unseen
test targets is the one to beat, which favours it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from recommend_beauty import COPURCHASE, load, machine, show

from genrail.catalog import Catalog
from genrail.constraints import Trie
from genrail.constraints.segments import LiveTrie
from genrail.decoding import BeamSettings
from genrail.engine import Engine
from genrail.evaluation import HeldOut, Split
from genrail.evaluation.tables import text_table
from genrail.finders.calibrating_new_items import CalibrationSettings, calibrate, recalibrated
from genrail.finders.native import NativeSpelling
from genrail.finders.new_items import Memory
from genrail.finding import Edition
from genrail.identifiers import SemanticIds
from genrail.models.native import NativeModel
from genrail.models.native_settings import NativeSettings
from genrail.models.text_encoder import TextEncoder
from genrail.rng import generator
from genrail.training import TrainingSettings, copurchase_vectors, train_native
from genrail.training.copurchase import with_copurchase
from genrail.types import Query

SHARE = 0.05  # of the items are dropped, as in TIGER's cold-start protocol
DECAYS = (0.3, 0.5, 0.7, 0.9)
CUTOFF = 10


def events(split: Split, validation: bool, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """List training events by the engine's rows, with the validation event at the end if asked; others are left out."""
    train, held_out = split.train, split.validation
    last = {int(user): int(row) for user, row in zip(held_out.users, held_out.targets, strict=True)}
    rows, offsets = [], [0]
    for user in range(len(train.offsets) - 1):
        own = train.sequence(user).tolist() + ([last[user]] if validation and user in last else [])
        rows += [int(place[row]) for row in own if place[row] >= 0]
        offsets.append(len(rows))
    return np.array(rows, dtype=np.int64), np.array(offsets, dtype=np.int64)


def cases(held_out: HeldOut, place: np.ndarray) -> list[tuple[list[int], int]]:
    """List histories and targets by the engine's rows; those that are not there are left out."""
    found = []
    for user in range(len(held_out)):
        past = [int(place[row]) for row in held_out.history(user) if place[row] >= 0]
        target = int(place[held_out.targets[user]])
        if past and target >= 0:
            found.append((past, target))
    return found


def build(
    catalog: Catalog, vectors: np.ndarray, encoder: TextEncoder, split: Split, place: np.ndarray, arguments: Any
) -> Engine:
    """Make identifiers and train on what is left, as `recommend_beauty.py` does on all."""
    seed = arguments.seed
    rows, offsets = events(split, validation=False, place=place)
    together = copurchase_vectors(rows, offsets, len(catalog), COPURCHASE, seed=seed)
    described = with_copurchase(vectors, together, COPURCHASE)
    codes = max(1, min(256, len(catalog) // 4))
    identifiers = SemanticIds.fit(described, levels=3, codes=codes, seed=seed)
    table = identifiers.assign(described, order=generator(seed, "de-duplicating codes").permutation(len(catalog)))
    model = NativeModel.create(NativeSettings(), table.matrix(), vectors, seed, max(table.vocab_size, codes))
    settings = TrainingSettings.for_size(model.items, max(0, len(rows) - len(offsets) + 1), arguments.max_seconds)
    validation = cases(split.validation, place)
    train_native(model, (rows, offsets), settings=settings, validation=validation, seed=seed, progress=show)
    memory = Memory(np.zeros(len(catalog), dtype=np.bool_), together).taught(rows)
    index = LiveTrie(Trie.from_matrix(table.matrix(), table.vocab_size))
    lane = NativeSpelling(encoder, identifiers, model, True, memory)
    return Engine(Edition(catalog, table, index, lane), BeamSettings(width=arguments.beam))


def answers(engine: Engine, asked: list[tuple[list[int], int]], policy: str | float) -> np.ndarray:
    """Recommend to each history; rank of the target from 0, or `CUTOFF`, (cases,)."""
    ids, ranks = engine.catalog.item_ids, []
    for begin in range(0, len(asked), 128):
        part = asked[begin : begin + 128]
        queries = [Query(history=[ids[row] for row in past], new_items=policy) for past, _ in part]
        for ranking, (_, target) in zip(engine.search_batch(queries, CUTOFF), part, strict=True):
            found = ranking.item_ids
            ranks.append(found.index(ids[target]) if ids[target] in found else CUTOFF)
        if begin % 2560 == 0:
            print(f"{policy}: {begin} of {len(asked)}", file=sys.stderr, flush=True)
    return np.array(ranks)


def neighbours(
    vectors: np.ndarray, asked: list[tuple[list[int], int]], new: int, decay: float
) -> dict[str, np.ndarray]:
    """Rank by likeness to the history's texts, among all items and among the last `new` ones."""
    ranks: dict[str, list[int]] = {"all": [], "among new": []}
    for past, target in asked:
        scores = vectors @ ((decay ** np.arange(len(past))[::-1]) @ vectors[past])
        scores[past] = -np.inf
        ranks["all"].append(int((scores > scores[target]).sum()))
        ranks["among new"].append(int((scores[-new:] > scores[target]).sum()))
    return {name: np.minimum(found, CUTOFF) for name, found in ranks.items()}


def figures(ranks: np.ndarray) -> dict[str, float]:
    """Give R@10 and nDCG@10."""
    gains = np.where(ranks < CUTOFF, 1.0 / np.log2(ranks + 2.0), 0.0)
    return {"R@10": float((ranks < CUTOFF).mean()), "nDCG@10": float(gains.mean())}


def interval(ranks: np.ndarray, seed: int) -> str:
    """Give the 95 % bootstrap interval of R@10 over users."""
    random = generator(seed, "bootstrap")
    hits = (ranks < CUTOFF).astype(float)
    means = [hits[random.integers(len(hits), size=len(hits))].mean() for _ in range(1000)]
    return f"[{np.percentile(means, 2.5):.4f}, {np.percentile(means, 97.5):.4f}]"


def main() -> None:
    """Run everything and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with items.csv(.gz) and sequences.csv(.gz)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--beam", type=int, default=50)
    parser.add_argument("--users", type=int, default=20_000, help="validation users to calibrate on, at most")
    parser.add_argument("--max-seconds", type=float, help="stop either training after this long")
    parser.add_argument("--vectors", type=Path, help="folder that keeps text vectors between runs")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    started = time.perf_counter()

    def lap(name: str) -> None:
        print(f"{name}: {time.perf_counter() - started:.0f} s after the start", file=sys.stderr, flush=True)

    whole, split = load(arguments.folder, arguments.seed)
    drawn = generator(arguments.seed, "new items").permutation(len(whole))
    new = drawn[: int(len(whole) * SHARE)]
    kept = np.setdiff1d(np.arange(len(whole)), new)
    named: dict[str, Any] = {"item_id": whole.columns.item_id, "title": whole.columns.title, "text": whole.columns.text}
    catalog = Catalog.from_items(whole.frame[kept].to_dicts(), **named)
    encoder = TextEncoder.load(cache=arguments.vectors)
    place = np.full(len(whole), -1, dtype=np.int64)
    place[kept] = np.arange(len(kept))
    vectors = encoder.encode(catalog.texts())
    lap("text vectors")
    engine = build(catalog, vectors, encoder, split, place, arguments)
    lap("training")
    settings = CalibrationSettings(users=arguments.users, max_seconds=arguments.max_seconds, seed=arguments.seed)
    past_events = events(split, validation=True, place=place)
    calibration = calibrate(engine.edition, *past_events, BeamSettings(width=arguments.beam), settings, show)
    engine = Engine(recalibrated(engine.edition, calibration), BeamSettings(width=arguments.beam))
    print(json.dumps(calibration.to_dict()), file=sys.stderr, flush=True)
    lap("calibration")
    engine.add(whole.frame[new].to_dicts())
    place[new] = np.arange(len(kept), len(whole))
    asked = cases(split.test, place)
    trained = engine.edition.finder.spelling.memory.seen  # type: ignore[attr-defined]
    unseen = [case for case in asked if case[1] >= len(kept)]
    seen = [case for case in asked if trained[case[1]]]
    rows: list[list[str]] = []
    report: dict[str, Any] = {"machine": machine(), "seed": arguments.seed, "calibration": calibration.to_dict()}
    report |= {"dropped items": len(new), "unseen targets": len(unseen), "seen targets": len(seen)}

    def add(name: str, on_unseen: np.ndarray, on_seen: np.ndarray | None) -> None:
        report[name] = {"unseen": figures(on_unseen)} | ({} if on_seen is None else {"seen": figures(on_seen)})
        cells = [f"{value:.4f}" for value in figures(on_unseen).values()]
        others = ["", ""] if on_seen is None else [f"{value:.4f}" for value in figures(on_seen).values()]
        rows.append([name, f"{cells[0]} {interval(on_unseen, arguments.seed)}", cells[1], *others])

    everything = np.concatenate([vectors, encoder.encode(engine.catalog.texts()[len(kept) :])])
    everything = everything - vectors.mean(axis=0)
    for decay in DECAYS:
        found = neighbours(everything, unseen, len(new), decay)
        ranked = neighbours(everything, seen[:: max(1, len(seen) // 2000)], len(new), decay)
        add(f"text k-NN, decay {decay}", found["all"], ranked["all"])
        add(f"text k-NN, decay {decay}, among new", found["among new"], None)
    lap("text k-NN")
    add("native, new_items=1.0: among new", answers(engine, unseen, 1.0), None)
    for policy in ("off", "auto"):
        add(f"native, new_items={policy}", answers(engine, unseen, policy), answers(engine, seen, policy))
        lap(policy)
    off, auto = report["native, new_items=off"]["seen"], report["native, new_items=auto"]["seen"]
    report["loss on seen targets"] = {name: 1.0 - auto[name] / off[name] for name in off}
    for suffix, mine in (("", "native, new_items=auto"), (", among new", "native, new_items=1.0: among new")):
        best = max(report[f"text k-NN, decay {decay}{suffix}"]["unseen"]["R@10"] for decay in DECAYS)
        report[f"R@10 by the best text k-NN{suffix}"] = report[mine]["unseen"]["R@10"] / best
    print(json.dumps({name: value for name, value in report.items() if not isinstance(value, dict) or "R@10" in value}))
    print(f"{len(new)} new items; {len(unseen)} unseen and {len(seen)} seen test targets; seed {arguments.seed}")
    print(text_table(["", "unseen: R@10", "nDCG@10", "seen: R@10", "nDCG@10"], rows))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
