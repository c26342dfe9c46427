"""Time recommendation: the native model, our TIGER lane, and TIGER by `generate` with a dict trie, side by side.

    python benchmarks/recommend_speed.py --json FILE
    python benchmarks/recommend_speed.py --quick

All answer the same histories over the same catalogue and Semantic IDs (3 levels of 256 codes and a de-duplicating one),
on one thread, turn by turn; weights are random, since time does not depend on them. A ratio is the peer's time by the
native model's. `generate` is the usual way of open TIGER implementations: transformers' T5 with
`prefix_allowed_tokens_fn` on nested dicts. Then the cost curve: time per answer of the native model from 10^4 to 10^6
items; and training: seconds per update of the native model and of TIGER, made into seconds per epoch of a log of the
given size.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_variable] = "1"

import numpy as np  # noqa: E402
import torch  # noqa: E402

from genrail.constraints import Trie  # noqa: E402
from genrail.decoding import BeamSettings, beam_search  # noqa: E402
from genrail.models.native import NativeModel  # noqa: E402
from genrail.models.native_settings import NativeSettings  # noqa: E402
from genrail.models.tiger import TigerModel  # noqa: E402
from genrail.rng import generator  # noqa: E402
from genrail.training import TrainingSettings, train_native  # noqa: E402
from genrail.training.loop import LoopSettings  # noqa: E402
from genrail.training.tiger import TigerTraining, train_tiger  # noqa: E402

LEVELS, CODES, K = 3, 256, 10


def identifiers(items: int, seed: int) -> np.ndarray:
    """Draw codes; a last code tells items apart that share the others."""
    rng = generator(seed, "identifiers", items)
    # Power laws per level, as clusters have; from 10^6 items on a first level of 256 codes would be too small.
    codes = (rng.random((items, LEVELS)) ** 1.5 * CODES).astype(np.int64)
    order = np.lexsort(codes.T[::-1])
    ordered = codes[order]
    new = np.ones(items, dtype=bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    first = np.maximum.accumulate(np.where(new, np.arange(items), 0))
    last = np.empty(items, dtype=np.int64)
    last[order] = np.arange(items) - first
    return np.column_stack([codes, last])


def histories(items: int, count: int, seed: int) -> list[list[int]]:
    """Draw histories of 2 to 20 items."""
    rng = generator(seed, "histories", items)
    return [rng.integers(0, items, rng.integers(2, 21)).tolist() for _ in range(count)]


def native(codes: np.ndarray, seed: int, dimensions: int = 384) -> tuple[NativeModel, Trie]:
    """Make an untrained native model with random text vectors."""
    rng = generator(seed, "vectors")
    vectors = rng.standard_normal((len(codes), dimensions), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    model = NativeModel.create(NativeSettings(), codes, vectors, seed, max(CODES, int(codes.max()) + 1))
    return model, Trie.from_matrix(model.table.codes(), model.vocab_size)


def by_native(model: NativeModel, trie: Trie, asked: Sequence[list[int]], beam: int) -> Callable[[], Any]:
    """Answer with the native model, seen items left out."""

    def act() -> Any:
        contexts = [model.context(history=history) for history in asked]
        subsets = [trie.without(np.asarray(history)) for history in asked]
        return beam_search(model, contexts, trie, BeamSettings(width=beam), subsets, K)

    return act


def by_tiger(model: TigerModel, trie: Trie, asked: Sequence[list[int]], beam: int) -> Callable[[], Any]:
    """Answer with our TIGER lane, seen items left out."""

    def act() -> Any:
        contexts = [model.context(history) for history in asked]
        subsets = [trie.without(np.asarray(history)) for history in asked]
        return beam_search(model, contexts, trie, BeamSettings(width=beam), subsets, K)

    return act


def by_generate(model: TigerModel, asked: Sequence[list[int]], beam: int) -> Callable[[], Any]:
    """Answer with `generate` and a dict trie; seen items stay in, which it has no way to leave out."""
    root: dict[int, Any] = {}
    for row in model.tokens.tolist():
        at = root
        for token in row:
            at = at.setdefault(token, {})
    levels = model.tokens.shape[1]

    def following(_: int, sent: torch.Tensor) -> list[int]:
        at = root
        for token in sent.tolist()[1:]:
            at = at.get(token, {})
        return list(at) or [model.pad]

    def act() -> Any:
        contexts = [model.context(history) for history in asked]
        longest = max(map(len, contexts))
        ids = torch.tensor([context + [model.pad] * (longest - len(context)) for context in contexts])
        with torch.inference_mode():
            return model.model.generate(
                ids,
                attention_mask=(ids != model.pad).long(),
                num_beams=beam,
                num_return_sequences=K,
                min_new_tokens=levels,
                max_new_tokens=levels,
                prefix_allowed_tokens_fn=following,
            )

    return act


def in_turn(acts: Sequence[Callable[[], Any]]) -> Callable[[], Any]:
    """Make one act of several."""
    return lambda: [act() for act in acts]


def turn_by_turn(acts: dict[str, Callable[[], Any]], turns: int) -> dict[str, float]:
    """Time every act once per turn; median seconds. The first turn, which warms up, does not count."""
    times: dict[str, list[float]] = {name: [] for name in acts}
    for turn in range(turns + 1):
        for name, act in acts.items():
            began = time.process_time()  # of the one thread that works: waiting for a busy machine is not counted
            act()
            if turn:
                times[name].append(time.process_time() - began)
    return {name: statistics.median(values) for name, values in times.items()}


def answers(items: int, batches: Sequence[int], beams: Sequence[int], turns: int, seed: int) -> list[dict[str, Any]]:
    """Time answers of the three, for each batch and beam width."""
    codes = identifiers(items, seed)
    model, trie = native(codes, seed)
    t5 = TigerModel(codes, seed=seed)
    t5_trie = Trie.from_matrix(t5.tokens, t5.pad)
    rows = []
    for batch in batches:
        requests = 10 if batch == 1 else 1  # one after the other in a turn
        asked = [histories(items, batch, seed + number) for number in range(requests)]
        for beam in beams:
            seconds = turn_by_turn(
                {
                    "native": in_turn([by_native(model, trie, one, beam) for one in asked]),
                    "TIGER lane": in_turn([by_tiger(t5, t5_trie, one, beam) for one in asked]),
                    "generate": in_turn([by_generate(t5, one, beam) for one in asked]),
                },
                turns if batch == 1 else max(1, turns // 5),
            )
            each = {name: value / batch / requests for name, value in seconds.items()}
            rows.append({"batch": batch, "beam": beam, "seconds per answer": each})
            print(
                f"batch {batch:>3}, beam {beam}: "
                + ", ".join(f"{name} {value * 1e3:.2f} ms ({1 / value:.1f}/s)" for name, value in each.items())
                + f"; generate takes {each['generate'] / each['native']:.1f} x the native model's time, the TIGER lane "
                f"{each['TIGER lane'] / each['native']:.1f} x",
                flush=True,
            )
    return rows


def cost_curve(sizes: Sequence[int], turns: int, seed: int) -> list[dict[str, float]]:
    """Time one answer of the native model over larger and larger catalogues, turn by turn."""
    acts: dict[str, Callable[[], Any]] = {}
    for items in sizes:
        model, trie = native(identifiers(items, seed), seed, dimensions=64)
        asked = histories(items, 20, seed)
        acts[str(items)] = in_turn([by_native(model, trie, [one], 50) for one in asked])
    seconds = {name: value / 20 for name, value in turn_by_turn(acts, turns).items()}
    first = seconds[str(sizes[0])]
    for name, value in seconds.items():
        print(
            f"{int(name):,} items: {value * 1e3:.2f} ms per answer, {value / first:.2f} x of {sizes[0]:,}", flush=True
        )
    return [{"items": int(name), "seconds per answer": value} for name, value in seconds.items()]


def training(items: int, users: int, updates: int, seed: int) -> dict[str, Any]:
    """Time a few updates of both, and make seconds per epoch of them."""
    rng = generator(seed, "log")
    codes = identifiers(items, seed)
    lengths = rng.integers(3, 15, users)
    sequences = rng.integers(0, items, lengths.sum()), np.concatenate([[0], np.cumsum(lengths)])
    targets = int(lengths.sum() - users)
    some = np.searchsorted(np.cumsum(lengths - 1), updates * 1024) + 1  # users whose next items fill the updates
    part = sequences[0][: sequences[1][some]], sequences[1][: some + 1]
    model, _ = native(codes, seed)
    began = time.process_time()
    settings = TrainingSettings(loop=LoopSettings(epochs=1), held_out_users=0, held_out_queries=0)
    train_native(model, part, settings=settings, seed=seed)
    natively = (time.process_time() - began) / (part[1][-1] - some) * targets
    t5 = TigerModel(codes, seed=seed)
    began = time.process_time()
    train_tiger(t5, sequences, TigerTraining(LoopSettings(epochs=1), steps_per_epoch=updates), seed=seed)
    by_t5 = (time.process_time() - began) / (updates * 256) * targets
    print(
        f"an epoch of {targets:,} next items, {items:,} items: native {natively:.0f} s, TIGER {by_t5:.0f} s on one "
        f"core ({by_t5 / natively:.1f} x); measured on {updates} updates"
    )
    return {"targets": targets, "native seconds": natively, "TIGER seconds": by_t5}


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few turns, up to 10^5 items")
    parser.add_argument("--items", type=int, default=12_101, help="of the comparison; default that of Amazon Beauty")
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cores, load = os.cpu_count(), os.getloadavg()[0]
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "numpy", "numba"))
    facts = f"{platform.machine()}, {cores} cores, load {load:.1f}, python {platform.python_version()}, {packages}"
    print(f"{facts}, seed {options.seed}, command {' '.join(sys.argv)}")
    turns = 3 if options.quick else options.turns
    figures = {
        "facts": facts,
        "answers": answers(options.items, (1,) if options.quick else (1, 64), (20, 50), turns, options.seed),
        "cost curve": cost_curve((10**4, 10**5) if options.quick else (10**4, 10**5, 10**6), turns, options.seed),
        "training": training(options.items, 22_363, 3 if options.quick else 20, options.seed),
        "peak memory MiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),  # KiB on Linux
    }
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
