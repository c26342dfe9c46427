"""Time the constraint step beside its peers, turn by turn in one process, one thread.

    python benchmarks/constraints.py --quick
    python benchmarks/constraints.py --sizes 1e5,1e6,1e7 --plot constraints.png --json constraints.json

Step = from the logits (queries x beams rows) to the 2 x beams best continuations of each query with their next
states, the denominator over the whole vocabulary included. Each figure is the median over turns, in processor time of
the one thread that does the work: waiting for a busy machine says nothing about a step. A ratio is the peer's median by
ours, so above 1 we are faster. Catalogues are synthetic. Semantic IDs: every prefix draws its child from its own power
law, the last level is uniform, collisions kept. Titles: brand (Zipf, 2 tokens), line (2 tokens), Zipf tokens, end
token.

Peers: unconstrained torch log-softmax + top-k; a dict trie in a Hugging Face processor's way (GENRE); a dense mask and
torch top-k from our own index; STATIC's torch code with `--static CHECKOUT` (youtube/static-constraint-decoding, not
fetched from anywhere); xgrammar's choice list, if it is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_variable] = "1"

import numpy as np  # noqa: E402
import torch  # noqa: E402

from genrail.constraints import LiveTrie, Trie, warm_up  # noqa: E402
from genrail.constraints.softmax import log_sum_exp  # noqa: E402
from genrail.rng import generator  # noqa: E402

clock = time.thread_time  # seconds of this thread
PEERS = ("unconstrained", "dense", "dict", "STATIC")


@dataclass(frozen=True)
class Work:
    """Name a catalogue: how its identifiers are drawn."""

    name: str
    vocab_size: int
    levels: int  # 0: titles

    def draw(self, items: int, seed: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Draw the identifiers: a matrix and None, or tokens and offsets."""
        rng = generator(seed, self.name, items)
        return (
            (semantic_ids(rng, items, self.levels, self.vocab_size), None)
            if self.levels
            else titles(rng, items, self.vocab_size)
        )

    def build(self, drawn: tuple[np.ndarray, np.ndarray | None]) -> Trie:
        """Build our index of them."""
        tokens, offsets = drawn
        if offsets is None:
            return Trie.from_matrix(tokens, self.vocab_size)
        return Trie.from_flat(tokens, offsets, self.vocab_size, end_token=0)


WORKS = {
    work.name: work
    for work in (
        Work("ids-4x256", 256, 4),
        Work("ids-8x2048", 2048, 8),
        Work("titles-32k", 32_000, 0),
        Work("titles-152k", 151_936, 0),
    )
}


def semantic_ids(rng: np.random.Generator, items: int, levels: int, codes: int) -> np.ndarray:
    """Draw codes level by level: u^2 over the codes in an order of the prefix's own."""
    out = np.empty((items, levels), dtype=np.int32)
    prefix = np.zeros(items, dtype=np.uint64)
    for level in range(levels):
        u = rng.random(items)
        code = ((u * u if level + 1 < levels else u) * codes).astype(np.uint64)
        stride = (prefix >> np.uint64(20)) % np.uint64(codes // 2) * np.uint64(2) + np.uint64(1)
        out[:, level] = (code * stride + (prefix >> np.uint64(40))) % np.uint64(codes)
        prefix = (prefix + out[:, level].astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    return out


def titles(rng: np.random.Generator, items: int, vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw titles of 8 to 20 tokens that share brands and lines; token 0 ends them."""
    brands = max(2, items // 200)
    brand = np.minimum(rng.zipf(1.3, items) - 1, brands - 1)
    line = brand * 8 + rng.integers(0, 8, items)
    lengths = rng.integers(8, 21, items)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = 1 + np.minimum(rng.zipf(1.2, offsets[-1]) - 1, vocab_size - 2) % (vocab_size - 1)
    for place, source in enumerate((brand, brand + 7, line, line + 3)):
        mixed = (source.astype(np.uint64) + np.uint64(place)) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(33)
        tokens[offsets[:-1] + place] = 1 + (mixed % np.uint64(vocab_size - 1)).astype(np.int64)
    tokens[offsets[1:] - 1] = 0
    return tokens.astype(np.int32), offsets


# The walk: one decode per shape, its logits and beams kept, so that all peers answer the same steps -------------------


@dataclass
class Walk:
    """Hold the steps of one decode: beams, logits and scores of each depth, and the tokens of each beam."""

    beams: list[Any]
    logits: list[np.ndarray]
    scores: list[np.ndarray]
    prefixes: list[list[tuple[int, ...]]]
    queries: int
    width: int


def record(index: Any, queries: int, width: int, depths: int, vocab_size: int, seed: int) -> Walk:
    """Decode with random logits and keep what every step was given."""
    rng = generator(seed, "walk", queries, width)
    pool = rng.standard_normal((queries * width, vocab_size), dtype=np.float32) * 2
    walk = Walk([], [], [], [], queries, width)
    beams, scores = index.start(queries), np.zeros((queries, 1))
    prefixes: list[tuple[int, ...]] = [()] * queries
    for depth in range(depths):
        logits = np.ascontiguousarray(np.roll(pool, 17 * depth + 1, axis=1)[: beams.alive.size])
        walk.beams.append(beams)
        walk.logits.append(logits)
        walk.scores.append(scores)
        walk.prefixes.append(prefixes)
        found = index.candidates(beams, logits, scores, 2 * width)
        if not found.count.any():
            break
        order = np.argsort(found.complete, axis=1, kind="stable")[:, :width]  # go on with what is not complete
        real = (order < found.count[:, None]) & ~np.take_along_axis(found.complete, order, axis=1)
        picks = np.where(real, order, -1)
        old, beams = prefixes, index.advance(found, picks)
        scores = np.where(real, np.take_along_axis(found.scores, np.maximum(picks, 0), axis=1), -np.inf)
        per_query = len(old) // queries
        prefixes = [
            (*old[q * per_query + int(found.parents[q, p])], int(found.tokens[q, p])) if p >= 0 else ()
            for q in range(queries)
            for p in picks[q]
        ]
    return walk


def median_ms(act: Callable[[], Any], turns: int) -> float:
    """Time one act; median milliseconds."""
    times = []
    for _ in range(turns):
        began = clock()
        act()
        times.append(clock() - began)
    return statistics.median(times) * 1e3


def turn_by_turn(acts: dict[str, Callable[[], Any]], turns: int) -> dict[str, float]:
    """Time every act once per turn, so that noise of the machine meets all of them alike; median milliseconds."""
    times: dict[str, list[float]] = {name: [] for name in acts}
    for act in acts.values():
        act()
    for _ in range(turns):
        for name, act in acts.items():
            began = clock()
            act()
            times[name].append(clock() - began)
    return {name: statistics.median(values) * 1e3 for name, values in times.items()}


# The steps ------------------------------------------------------------------------------------------------------------


def our_step(index: Any, walk: Walk, depth: int, subsets: Any = None) -> Callable[[], Any]:
    """Make our step at one depth of a walk."""
    beams, logits, scores = walk.beams[depth], walk.logits[depth], walk.scores[depth]
    return lambda: index.candidates(beams, logits, scores, 2 * walk.width, subsets)


def unconstrained(walk: Walk, depth: int) -> Callable[[], Any]:
    """Make the step without any constraint: log-softmax and top-k."""
    logits = torch.from_numpy(walk.logits[depth])
    scores = torch.from_numpy(walk.scores[depth]).float()
    width = scores.shape[1]

    def step() -> Any:
        table = torch.log_softmax(logits, dim=-1).view(walk.queries, width, -1) + scores[:, :, None]
        return torch.topk(table.view(walk.queries, -1), 2 * walk.width)

    return step


def masked(walk: Walk, depth: int, fill: Callable[[torch.Tensor], None]) -> Callable[[], Any]:
    """Time log-softmax, an additive mask of -inf made by `fill`, and top-k: a foreign loop with a processor."""
    logits = torch.from_numpy(walk.logits[depth])
    scores = torch.from_numpy(walk.scores[depth]).float()
    width = scores.shape[1]

    def step() -> Any:
        table = torch.log_softmax(logits, dim=-1)
        mask = torch.full_like(table, -torch.inf)
        fill(mask)
        table = (table + mask).view(walk.queries, width, -1) + scores[:, :, None]
        return torch.topk(table.view(walk.queries, -1), 2 * walk.width)

    return step


def dict_trie(drawn: tuple[np.ndarray, np.ndarray | None]) -> dict[int, Any]:
    """Build GENRE's trie: nested dicts."""
    tokens, offsets = drawn
    root: dict[int, Any] = {}
    flat = tokens.tolist()
    rows = flat if offsets is None else [flat[a:b] for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
    for row in rows:
        at = root
        for token in row:
            at = at.setdefault(token, {})
    return root


def dict_step(root: dict[int, Any], walk: Walk, depth: int) -> Callable[[], Any]:
    """Walk the dicts from the root for each beam, as `PrefixConstrainedLogitsProcessor` asks GENRE's trie to."""
    prefixes, alive = walk.prefixes[depth], walk.beams[depth].alive.reshape(-1)

    def fill(mask: torch.Tensor) -> None:
        for beam, prefix in enumerate(prefixes):
            if alive[beam]:
                at = root
                for token in prefix:
                    at = at[token]
                mask[beam, list(at)] = 0

    return masked(walk, depth, fill)


def dense_step(index: Any, walk: Walk, depth: int) -> Callable[[], Any]:
    """Make the step of a foreign loop that asks our index for the children of each beam and fills a dense mask."""
    beams = walk.beams[depth]
    states, alive = beams.states.reshape(-1, beams.states.shape[2]), beams.alive.reshape(-1)

    def fill(mask: torch.Tensor) -> None:
        for beam in np.flatnonzero(alive):
            mask[beam, index.children(states[beam])[0]] = 0

    return masked(walk, depth, fill)


# STATIC ---------------------------------------------------------------------------------------------------------------


class Static:
    """Hold the index that STATIC's reference code builds, and its step: one level of `sparse_transition_torch`."""

    def __init__(self, checkout: Path, codes: np.ndarray, vocab_size: int) -> None:
        sys.path.insert(0, str(checkout))
        if importlib.util.find_spec("static_decoding") is None:
            raise SystemExit(f"{checkout} does not hold static_decoding; give the root of a checkout of STATIC")
        from static_decoding import csr_utils, decoding_pt

        distinct = np.unique(codes, axis=0)  # it wants sorted, distinct rows
        began = clock()
        packed, indptr, branches, _, mask, states = csr_utils.build_static_index(distinct, vocab_size)
        self.seconds = clock() - began
        self.packed, self.indptr = torch.from_numpy(packed), torch.from_numpy(indptr)
        self.mask, self.states = torch.from_numpy(mask), torch.from_numpy(states)
        self.branches, self.vocab_size = branches, vocab_size
        self.code = decoding_pt

    def state(self, prefix: tuple[int, ...]) -> int:
        """Find the state of a prefix, for the set-up only."""
        if len(prefix) < 2:
            return prefix[0] + 1 if prefix else 0
        at = int(self.states[prefix[0], prefix[1]])
        for token in prefix[2:]:
            edges = self.packed[int(self.indptr[at]) : int(self.indptr[at + 1])]
            at = int(edges[edges[:, 0] == token][0, 1])
        return at

    def step(self, walk: Walk, depth: int) -> Callable[[], Any]:
        """Make its step at one depth of a walk."""
        logits, device = torch.from_numpy(walk.logits[depth]), torch.device("cpu")
        scores = torch.from_numpy(walk.scores[depth]).float()
        states = torch.tensor([self.state(prefix) for prefix in walk.prefixes[depth]])
        width, wanted = scores.shape[1], 2 * walk.width

        def children(table: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            if depth > 1:
                limit = self.branches[depth]
                return self.code.generate_and_apply_logprobs_mask(
                    table, states, self.packed, self.indptr, limit, self.vocab_size, device
                )
            parents = states - 1
            table = torch.where(self.mask[parents], table, torch.tensor(-torch.inf))
            best, tokens = torch.topk(table, min(wanted, self.vocab_size), dim=-1)
            return best, tokens, self.states[parents.unsqueeze(1), tokens]

        @torch.inference_mode()
        def step() -> Any:
            best, tokens, next_states = children(torch.log_softmax(logits, dim=-1))
            total = (scores.unsqueeze(2) + best.view(walk.queries, width, -1)).view(walk.queries, -1)
            top, places = torch.topk(total, min(wanted, total.shape[1]), dim=-1)
            tokens, next_states = (x.reshape(walk.queries, -1).gather(1, places) for x in (tokens, next_states))
            return top, places // best.shape[1], tokens, next_states

        return step


# What is measured -----------------------------------------------------------------------------------------------------


def bench_steps(work: Work, items: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Build one catalogue and time every shape and depth of it."""
    drawn = work.draw(items, options.seed)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = clock()
    index = work.build(drawn)
    seconds = clock() - began
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(
        f"\n{work.name}, {items:,} items: build {seconds:.2f} s, peak above the input at most {peak:,.0f} MB, "
        f"{index.nbytes / items:.1f} bytes per item ({index.rows.nbytes / items:.1f} of them tokens)"
    )
    root = None
    if items <= options.dict_items:
        began = clock()
        root = dict_trie(drawn)
        print(f"  dict trie: build {clock() - began:.2f} s")
    static = None
    if options.static and work.levels:
        static = Static(options.static, drawn[0], work.vocab_size)
        print(f"  STATIC: build {static.seconds:.2f} s of distinct, sorted rows: {static.seconds / seconds:.1f}x ours")
    print(f"  {'shape':>6} {'ours ms':>8} {'worst level':>11} " + " ".join(f"{name:>13}" for name in PEERS))
    rows = []
    for queries, width in options.shapes:
        if queries * width * work.vocab_size > options.most_logits:
            continue
        walk = record(index, queries, width, work.levels or 8, work.vocab_size, options.seed)
        rows.append(bench_shape(work, items, index, (root, static), walk, options))
    return rows


def bench_shape(
    work: Work, items: int, index: Trie, peers: tuple[Any, Static | None], walk: Walk, options: argparse.Namespace
) -> dict[str, Any]:
    """Time one shape: the mean over the depths behind the root, since decoders spend their time there."""
    totals: dict[str, list[float]] = {}
    root, static = peers
    for depth in range(1, len(walk.beams)):
        acts = {"ours": our_step(index, walk, depth), "unconstrained": unconstrained(walk, depth)}
        if static is not None:
            acts["STATIC"] = static.step(walk, depth)
        if depth <= 2:  # a beam of Python calls is slow: two levels tell it
            acts["dense"] = dense_step(index, walk, depth)
            if root is not None:
                acts["dict"] = dict_step(root, walk, depth)
        for name, value in turn_by_turn(acts, options.turns).items():
            totals.setdefault(name, []).append(value)
    ours = totals["ours"]
    ratios = {
        name: statistics.mean(values) / statistics.mean(ours[: len(values)])
        for name, values in totals.items()
        if name != "ours"
    }
    mean = statistics.mean(ours)
    cells = [f"{ratios[name]:>12.2f}x" if name in ratios else f"{'-':>13}" for name in PEERS]
    print(f"  {walk.queries:>3}x{walk.width:<2} {mean:>8.3f} {max(ours):>11.3f} {' '.join(cells)}", flush=True)
    return {
        "work": work.name,
        "items": items,
        "shape": f"{walk.queries}x{walk.width}",
        "ours_ms": mean,
        "worst_level_ms": max(ours),
        "peer_by_ours": ratios,
    }


def bench_subsets(work: Work, items: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Time the step with a share of the items allowed, by the unfiltered step of the same beams' own decode."""
    index = work.build(work.draw(items, options.seed))
    rng = generator(options.seed, "subsets")
    print(f"\n{work.name}, {items:,} items: step with a share of the items allowed, by the unfiltered step")
    rows = []
    shares = (0.5, 0.1, 0.01, 0.001, 0.0001)
    print(f"  {'shape':>6} " + " ".join(f"{share:>8.2%}" for share in shares))
    masks = [rng.random(items) < share for share in shares]
    predicate = median_ms(lambda: index.subset(masks[1]), 5)
    for queries, width in options.shapes:
        if queries * width * work.vocab_size > options.most_logits:
            continue
        walk = record(index, queries, width, work.levels or 5, work.vocab_size, options.seed)
        ratios = []
        for mask in masks:
            subset = index.subset(mask)
            filtered = record_subset(index, walk, subset, options.seed, work)
            by_depth = [
                turn_by_turn(
                    {
                        "all": our_step(index, walk, depth),
                        "some": our_step(index, filtered, depth, [subset] * queries),
                    },
                    options.turns,
                )
                for depth in range(1, min(len(walk.beams), len(filtered.beams)))
            ]
            ratios.append(sum(d["some"] for d in by_depth) / sum(d["all"] for d in by_depth))
        print(f"  {queries:>3}x{width:<2} " + " ".join(f"{ratio:>7.2f}x" for ratio in ratios))
        rows.append(
            {"work": work.name, "items": items, "shape": f"{queries}x{width}", "shares": shares, "ratios": ratios}
        )
    print(f"  a mask over catalogue rows becomes a subset in {predicate:.2f} ms")
    return rows


class _Filtered:
    """Decode an index within one subset, through the interface that `record` knows."""

    def __init__(self, index: Trie, subset: Any) -> None:
        self.index, self.subset = index, subset
        self.start, self.advance = index.start, index.advance

    def candidates(self, beams: Any, logits: Any, scores: Any, count: int) -> Any:
        return self.index.candidates(beams, logits, scores, count, [self.subset] * len(beams.alive))


def record_subset(index: Trie, walk: Walk, subset: Any, seed: int, work: Work) -> Walk:
    """Record the walk that the same decode takes within a subset."""
    return record(_Filtered(index, subset), walk.queries, walk.width, work.levels or 5, work.vocab_size, seed)


def bench_updates(work: Work, items: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Time adds and removals, and the step with 2 % of the items in the new segment."""
    added = items // 50
    tokens, offsets = work.draw(items + added, options.seed)
    old = (tokens[:items], None) if offsets is None else (tokens[: offsets[items]], offsets[: items + 1])
    whole, base = work.build((tokens, offsets)), LiveTrie(work.build(old))
    new = (tokens[items:].reshape(-1), np.arange(added + 1) * work.levels)
    if offsets is not None:
        new = (tokens[offsets[items] :], offsets[items:] - offsets[items])
    live = base.add_flat(*new)
    live.remove([1])
    add_ms = median_ms(lambda: base.add_flat(*new), 5)
    remove_ms = median_ms(lambda: live.remove([items // 2]), 20)
    compact_s = median_ms(live.compact, 1) / 1e3
    print(
        f"\n{work.name}, {items:,} items: add {added:,} in {add_ms:.1f} ms, remove one in {remove_ms:.3f} ms, "
        f"compact in {compact_s:.2f} s"
    )
    rows = []
    for queries, width in options.shapes:
        if queries * width * work.vocab_size > options.most_logits:
            continue
        one = record(whole, queries, width, work.levels or 5, work.vocab_size, options.seed)
        two = record(live, queries, width, work.levels or 5, work.vocab_size, options.seed)
        times = [
            turn_by_turn({"one": our_step(whole, one, depth), "two": our_step(live, two, depth)}, options.turns)
            for depth in range(1, len(one.beams))
        ]
        ratio = sum(t["two"] for t in times) / sum(t["one"] for t in times)
        print(f"  {queries:>3}x{width:<2} step with 2 % in a new segment, by one index: {ratio:.2f}x")
        rows.append({"work": work.name, "items": items, "shape": f"{queries}x{width}", "ratio": ratio})
    return rows


def bench_softmax(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Time the log-sum-exp by torch's log-softmax and by reading the logits once."""
    rows = []
    print(f"\nlog-sum-exp {'ms':>15} {'torch log_softmax':>18} {'reading once':>13}")
    for queries, vocab_size in ((160, 256), (160, 32_000), (160, 151_936)):
        logits = generator(options.seed, "softmax").standard_normal((queries, vocab_size), dtype=np.float32)
        tensor = torch.from_numpy(logits)
        times = turn_by_turn(
            {
                "ours": lambda a=logits: log_sum_exp(a),
                "torch": lambda t=tensor: torch.log_softmax(t, dim=-1),
                "read": lambda a=logits: a.max(),
            },
            options.turns,
        )
        print(
            f"  {queries} x {vocab_size:<8} {times['ours']:>10.3f} {times['torch'] / times['ours']:>17.1f}x "
            f"{times['read'] / times['ours']:>12.2f}x"
        )
        rows.append({"rows": queries, "vocab_size": vocab_size, **times})
    return rows


def bench_xgrammar(options: argparse.Namespace) -> dict[str, Any] | None:
    """Time building an index of 10^4 titles by compiling them as xgrammar's choice list."""
    if importlib.util.find_spec("xgrammar") is None:
        print("\nxgrammar is not installed: its choice list is left out")
        return None
    import xgrammar

    items, vocab_size = 10_000, 32_000
    drawn = titles(generator(options.seed, "xgrammar"), items, vocab_size)
    words = [f"w{token} " for token in range(vocab_size)]
    tokens, offsets = drawn
    texts = ["".join(words[t] for t in tokens[a : b - 1]) for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
    compiler = xgrammar.GrammarCompiler(xgrammar.TokenizerInfo(words), max_threads=1)
    began = clock()
    compiler.compile_grammar("root ::= " + " | ".join(json.dumps(text) for text in texts))
    theirs = clock() - began
    ours = median_ms(lambda: Trie.from_flat(*drawn, vocab_size, end_token=0), 3) / 1e3
    print(
        f"\nxgrammar, {items:,} titles as a choice list: {theirs:.1f} s, our index {ours:.3f} s: {theirs / ours:.0f}x"
    )
    return {"items": items, "xgrammar_s": theirs, "ours_s": ours}


def plot(results: dict[str, Any], path: Path) -> None:
    """Draw step time by catalogue size and by share of allowed items."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2))
    lines: dict[str, list[tuple[int, float]]] = {}
    for row in results["steps"]:
        if row["shape"] == "8x20":
            lines.setdefault(f"{row['work']}", []).append((row["items"], row["ours_ms"]))
            lines.setdefault(f"{row['work']}, no constraint (torch)", []).append(
                (row["items"], row["ours_ms"] * row["peer_by_ours"]["unconstrained"])
            )
            if "dict" in row["peer_by_ours"]:
                lines.setdefault(f"{row['work']}, dict trie", []).append(
                    (row["items"], row["ours_ms"] * row["peer_by_ours"]["dict"])
                )
    for name, points in lines.items():
        left.loglog(*zip(*sorted(points), strict=True), "--" if "," in name else "-", marker="o", label=name)
    left.set(xlabel="items", ylabel="milliseconds per step, 8 x 20", title="Step by catalogue size")
    left.legend(fontsize=7)
    for row in results["subsets"]:
        right.semilogx(row["shares"], row["ratios"], marker="o", label=f"{row['work']}, {row['shape']}")
    right.axhline(1, color="grey", linewidth=0.8)
    right.set(
        xlabel="share of items allowed", ylabel="by the unfiltered step", title="Step by selectivity", ylim=(0, None)
    )
    right.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    print(f"\nwrote {path}")


def describe(options: argparse.Namespace) -> dict[str, Any]:
    """Say what ran where."""
    import numba

    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        processor = names[0] if names else processor
    facts = {
        "processor": processor,
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "torch": torch.__version__,
        "seed": options.seed,
        "command": " ".join(sys.argv),
    }
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    return facts


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--works", default=",".join(WORKS), help="comma-separated: " + ", ".join(WORKS))
    parser.add_argument("--sizes", default="1e5,1e6", help="items, comma-separated")
    parser.add_argument("--shapes", default="1x10,8x20,32x50", help="queries x beams, comma-separated")
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dict-items", type=float, default=1e6, help="build a dict trie up to so many items")
    parser.add_argument("--most-logits", type=float, default=6e7, help="skip shapes with more logits than this")
    parser.add_argument("--static", type=Path, help="a checkout of STATIC, to compare with")
    parser.add_argument("--quick", action="store_true", help="1e4 and 1e5 items, two kinds of catalogue, few turns")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--plot", type=Path, help="draw them here (needs matplotlib)")
    options = parser.parse_args()
    if options.quick:
        options.works, options.sizes, options.turns = "ids-4x256,titles-32k", "1e4,1e5", 5
    options.works = [WORKS[name] for name in options.works.split(",")]
    options.sizes = [int(float(size)) for size in options.sizes.split(",")]
    options.shapes = [tuple(map(int, shape.split("x"))) for shape in options.shapes.split(",")]
    return options


def main() -> None:
    """Run what was asked for."""
    options = parse()
    torch.set_num_threads(1)
    results: dict[str, Any] = {"facts": describe(options)}
    warm_up(print)
    results["softmax"] = bench_softmax(options)
    results["steps"] = [
        row for work in options.works for size in options.sizes for row in bench_steps(work, size, options)
    ]
    middle = sorted(options.sizes)[len(options.sizes) // 2]
    results["subsets"] = [row for work in options.works for row in bench_subsets(work, middle, options)]
    results["updates"] = [row for work in options.works for row in bench_updates(work, middle, options)]
    results["xgrammar"] = bench_xgrammar(options)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    if options.plot:
        plot(results, options.plot)


if __name__ == "__main__":
    main()
