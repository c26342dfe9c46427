"""Time the constraint step beside its peers, turn by turn in one process, one thread.

    python benchmarks/constraints.py --quick
    python benchmarks/constraints.py --full --static CHECKOUT --json FILE --pictures FOLDER

Step = from the logits (queries x beams rows) to the 2 x beams best continuations of each query with their next
states, the denominator over the whole vocabulary included. Each figure is the median over turns of our step and one
peer's, in processor time of the one thread that does the work: waiting for a busy machine says nothing about a step. A
ratio is the peer's by ours, so above 1 we are faster; it is of the mean over the depths behind the root. Catalogues are
synthetic. Semantic IDs: every prefix draws its child from its own power law, the last level is uniform, collisions
kept. Titles: brand (Zipf, 2 tokens), line (2 tokens), Zipf tokens, end token. Indexes are built in a process of their
own, which tells its peak memory, saved, and opened memory-mapped.

Peers: unconstrained torch log-softmax + top-k; a dict trie in a Hugging Face processor's way (GENRE); STATIC's torch
code with `--static CHECKOUT` (youtube/static-constraint-decoding, not fetched from anywhere); xgrammar's choice list,
if it is installed (`pip install "genrail[bench]"`). Who is absent is named in the table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_variable] = "1"

import numpy as np  # noqa: E402
import torch  # noqa: E402
from constraint_peers import (  # noqa: E402
    WORKS,
    Static,
    Walk,
    Work,
    clock,
    dict_step,
    dict_trie,
    median_ms,
    our_step,
    record,
    turn_by_turn,
    unconstrained,
)
from constraint_pictures import draw  # noqa: E402
from grammar_peer import bench_xgrammar  # noqa: E402

from genrail.constraints import LiveTrie, Trie, warm_up  # noqa: E402
from genrail.constraints.softmax import log_sum_exp  # noqa: E402
from genrail.rng import generator  # noqa: E402

SHAPES = ((1, 10), (8, 20), (32, 50))
MOST_LOGITS = 6e7  # 240 MB a step, of which a recorded decode keeps several
QUICK = {"ids-4x256": (1e4, 1e5), "titles-32k": (1e4, 1e5)}
FULL = {
    "ids-4x256": (1e5, 1e6, 1e7),
    "ids-8x2048": (1e5, 1e6),
    "titles-32k": (1e5, 1e6),
    "titles-152k": (1e5,),
}


@dataclass
class Report:
    """Collect figures and bars."""

    options: argparse.Namespace
    results: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    bars: list[tuple[str, str, str, bool | None]] = field(default_factory=list)

    def add(self, kind: str, **figures: Any) -> None:
        """Keep the figures of one measurement."""
        self.results.setdefault(kind, []).append(figures)

    def most(self, name: str, value: float | None, bar: float, unit: str = "x") -> None:
        """Hold a figure against the most that it may be; None was not measured."""
        met = None if value is None else value <= bar
        self.bars.append((name, f"<= {bar:g} {unit}", "-" if value is None else f"{value:.3g} {unit}", met))

    def least(self, name: str, value: float | None, bar: float, unit: str = "x") -> None:
        """Hold a figure against the least that it must be; None was not measured."""
        met = None if value is None else value >= bar
        self.bars.append((name, f">= {bar:g} {unit}", "-" if value is None else f"{value:.3g} {unit}", met))

    def table(self) -> str:
        """Lay the bars out."""
        words = {True: "met", False: "MISSED", None: "not measured"}
        width = max(len(bar[0]) for bar in self.bars)
        lines = [f"{'against':<{width}}  {'bar':>12}  {'measured':>12}"]
        lines += [f"{name:<{width}}  {bar:>12}  {value:>12}  {words[met]}" for name, bar, value, met in self.bars]
        return "\n".join(lines)


# Building -------------------------------------------------------------------------------------------------------------


def build_here(work: Work, folder: Path) -> dict[str, float]:
    """Build the index of the saved input in this process, and tell seconds and peak memory above the input."""
    tokens = np.load(folder / "tokens.npy")
    offsets = None if work.levels else np.load(folder / "offsets.npy")
    work.build(work.draw(100, 0)).save(folder / "warm")  # kernels and libraries are there now
    before = peak_memory(forget=True)
    began = clock()
    index = work.build((tokens, offsets))
    seconds = clock() - began
    peak = peak_memory() - before
    index.save(folder / "trie")
    stored = sum(path.stat().st_size for path in (folder / "trie").iterdir())
    return {"seconds": seconds, "peak_mb": peak, "bytes": stored, "token_bytes": index.rows.nbytes}


def peak_memory(forget: bool = False) -> float:
    """Give the most memory that this process has held, in MB; with `forget`, from now on.

    `ru_maxrss` would begin with the peak of the process that started this one.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if forget:
        Path("/proc/self/clear_refs").write_text("5")
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1024


def build_elsewhere(
    work: Work, items: int, drawn: tuple[np.ndarray, np.ndarray | None], report: Report
) -> tuple[Trie, dict[str, float]]:
    """Build in a process of its own and open what it saved."""
    tokens, offsets = drawn
    with tempfile.TemporaryDirectory() as name:  # mapped files outlive their names
        folder = Path(name)
        np.save(folder / "tokens.npy", tokens)
        if offsets is not None:
            np.save(folder / "offsets.npy", offsets)
        command = [sys.executable, __file__, "--build", work.name, "--folder", name]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        built: dict[str, float] = json.loads(answer)
        index = Trie.load(folder / "trie")
        built["open_ms"] = median_ms(lambda: Trie.load(folder / "trie"), 5)
    report.add("build", work=work.name, items=items, **built)
    print(
        f"\n{work.name}, {items:,} items: built in {built['seconds']:.2f} s, peak {built['peak_mb']:,.0f} MB above the "
        f"input, {built['bytes'] / items:.1f} bytes per item ({built['token_bytes'] / items:.1f} of them tokens), "
        f"opened in {built['open_ms']:.1f} ms",
        flush=True,
    )
    return index, built


def build_bars(work: Work, items: int, built: dict[str, float], report: Report) -> None:
    """Hold a build against its bars."""
    each = built["bytes"] / items
    if work.levels:
        if items >= 1e5:
            report.most(f"bytes per item, {work.name}, {items:.0e}", each, 14 if work.levels == 4 else 28, "B")
    else:
        report.most(f"bytes by the tokens', {work.name}, {items:.0e}", built["bytes"] / built["token_bytes"], 1.6)
    if items == 10**7 and work.name in ("ids-4x256", "titles-32k"):
        seconds, megabytes = (5, 500) if work.levels else (45, 2500)
        report.most(f"build, {work.name}, 1e7", built["seconds"], seconds, "s")
        report.most(f"build peak, {work.name}, 1e7", built["peak_mb"], megabytes, "MB")


# Steps ----------------------------------------------------------------------------------------------------------------


def bench_work(work: Work, items: int, report: Report) -> Trie:
    """Build one catalogue, and time every shape of it beside the peers."""
    options = report.options
    drawn = work.draw(items, options.seed)
    index, built = build_elsewhere(work, items, drawn, report)
    build_bars(work, items, built, report)
    root = static = None
    if items <= options.dict_items and work.name in ("ids-4x256", "titles-32k"):
        began = clock()
        root = dict_trie(drawn)
        report.least(f"dict trie, build, {work.name}, {items:.0e}", (clock() - began) / built["seconds"], 10)
    if options.static and work.levels and items <= 10**6:
        static = Static(options.static, drawn[0], work.vocab_size)
        report.least(f"STATIC, build, {work.name}, {items:.0e}", static.seconds / built["seconds"], 4)
    del drawn
    for queries, width in SHAPES:
        if queries * width * work.vocab_size <= MOST_LOGITS:
            depths = work.levels or (4 if queries > 8 else 6)
            walk = record(index, queries, width, depths, work.vocab_size, options.seed)
            bench_shape(work, items, index, (root, static), walk, report)
    return index


def bench_shape(
    work: Work, items: int, index: Trie, peers: tuple[Any, Static | None], walk: Walk, report: Report
) -> None:
    """Time one shape: the mean over the depths behind the root, since decoders spend their time there."""
    totals: dict[str, list[float]] = {}
    beside: dict[str, list[float]] = {}  # our step turn by turn with this peer alone, each as cold as the other
    root, static = peers
    for depth in range(1, len(walk.beams)):
        times = {"unconstrained": unconstrained(walk, depth)}
        if static is not None:
            times["STATIC"] = static.step(walk, depth)
        if root is not None and depth <= 3:  # a beam of Python calls is slow: three levels tell it
            times["dict"] = dict_step(root, walk, depth)
        for name, peer in times.items():
            count = turns(walk, work, report) if name != "dict" else 5
            pair = turn_by_turn({"ours": our_step(index, walk, depth), name: peer}, count)
            totals.setdefault(name, []).append(pair[name])
            beside.setdefault(name, []).append(pair["ours"])
    ours, shape = beside["unconstrained"], f"{walk.queries}x{walk.width}"
    ratios = {name: statistics.mean(values) / statistics.mean(beside[name]) for name, values in totals.items()}
    totals["ours"] = ours
    worst = max(ours)
    where = f"{work.name}, {items:.0e}, {shape}"
    print(
        f"  {shape:>6} {statistics.mean(ours):>8.3f} ms, worst level {worst:.3f} ms; "
        + ", ".join(f"{name} {ratio:.2f}x" for name, ratio in ratios.items()),
        flush=True,
    )
    report.add(
        "steps", work=work.name, items=items, shape=shape, ours_ms=ours, peer_by_ours=ratios, levels_ms=dict(totals)
    )
    report.least(f"unconstrained torch, {where}", ratios["unconstrained"], 1.25 if work.levels else 4)
    if static is not None:
        report.least(f"STATIC, {where}", ratios["STATIC"], 4)
        if shape == "32x50":
            report.least(f"STATIC, worst level, {where}", max(totals["STATIC"]) / max(beside["STATIC"]), 5)
    if root is not None and items >= 10**6:
        bar = {"1x10": 12, "8x20": 40, "32x50": 50}[shape] if work.levels else 20
        report.least(f"dict trie, {where}", ratios["dict"], bar)


def turns(walk: Walk, work: Work, report: Report) -> int:
    """Take more turns for short steps: noise is of the machine, not of the step."""
    logits = walk.queries * walk.width * work.vocab_size
    return int(report.options.turns * min(4, max(0.3, 1e6 / logits)))


def bench_growth(work: Work, indexes: dict[int, Trie], report: Report) -> None:
    """Time the step of the smallest and the largest catalogue turn by turn."""
    small, large = min(indexes), max(indexes)
    if small == large:
        return
    for queries, width in SHAPES:
        walks = {
            items: record(indexes[items], queries, width, work.levels or 4, work.vocab_size, report.options.seed)
            for items in (small, large)
            if queries * width * work.vocab_size <= MOST_LOGITS
        }
        total = dict.fromkeys(walks, 0.0)
        for depth in range(1, min((len(walk.beams) for walk in walks.values()), default=0)):
            acts = {str(items): our_step(indexes[items], walk, depth) for items, walk in walks.items()}
            for items, value in turn_by_turn(acts, turns(walks[small], work, report)).items():
                total[int(items)] += value
        if walks:
            growth = total[large] / total[small]
            shape = f"{queries}x{width}"
            report.add("growth", work=work.name, small=small, large=large, shape=shape, ratio=growth)
            report.most(f"growth {small:.0e} -> {large:.0e}, {work.name}, {shape}", growth, 1.5)


# Subsets and updates --------------------------------------------------------------------------------------------------


class _Filtered:
    """Decode an index within one subset, through the interface that `record` knows."""

    def __init__(self, index: Trie, subset: Any) -> None:
        self.index, self.subset = index, subset
        self.start, self.advance = index.start, index.advance

    def candidates(self, beams: Any, logits: Any, scores: Any, count: int) -> Any:
        return self.index.candidates(beams, logits, scores, count, [self.subset] * len(beams.alive))


def bench_subsets(work: Work, index: Trie, report: Report) -> None:
    """Time the step with a share of the items allowed, by the unfiltered step of the same beams' own decode."""
    items, seed = index.row_count, report.options.seed
    rng = generator(seed, "subsets")
    shares = (0.5, 0.1, 0.01, 0.001, 0.0001)
    subsets = {share: index.subset(rng.random(items) < share) for share in shares}
    for queries, width in SHAPES:
        if queries * width * work.vocab_size > MOST_LOGITS / 4:
            continue
        walk = record(index, queries, width, work.levels or 4, work.vocab_size, seed)
        ratios = []
        for subset in subsets.values():
            filtered = record(_Filtered(index, subset), queries, width, work.levels or 4, work.vocab_size, seed)
            by_depth = [
                turn_by_turn(
                    {
                        "all": our_step(index, walk, depth),
                        "some": our_step(index, filtered, depth, [subset] * queries),
                    },
                    turns(walk, work, report),
                )
                for depth in range(1, min(len(walk.beams), len(filtered.beams)))
            ]
            ratios.append(sum(d["some"] for d in by_depth) / sum(d["all"] for d in by_depth))
        shape = f"{queries}x{width}"
        report.add("subsets", work=work.name, items=items, shape=shape, shares=shares, ratios=ratios)
        for share, ratio in list(zip(shares, ratios, strict=True))[1:4]:
            report.most(f"{share:.1%} allowed, {work.name}, {items:.0e}, {shape}", ratio, 1.3 if queries == 8 else 1.5)


def bench_predicate(index: Trie, report: Report) -> None:
    """Time a new predicate on a column that is loaded, in the order of the ranks."""
    price = index.by_rank(generator(report.options.seed, "price").random(index.row_count, dtype=np.float32))
    took = median_ms(lambda: index.subset_by_rank(price < 0.1), 15)
    report.add("predicate", items=index.row_count, ms=took)
    report.most(f"new predicate, {index.row_count:.0e} rows", took, 6, "ms")


def bench_updates(work: Work, items: int, report: Report) -> None:
    """Time adds and removals, and the step with 2 % of the items in the new segment."""
    added = items // 50
    tokens, offsets = work.draw(items + added, report.options.seed)
    old = (tokens[:items], None) if offsets is None else (tokens[: offsets[items]], offsets[: items + 1])
    whole, base = work.build((tokens, offsets)), LiveTrie(work.build(old))
    new = (tokens[items:].reshape(-1), np.arange(added + 1) * work.levels)
    if offsets is not None:
        new = (tokens[offsets[items] :], offsets[items:] - offsets[items])
    live = base.add_flat(*new)
    live.remove([1])
    add_ms, remove_ms = (
        median_ms(lambda: base.add_flat(*new), 7),
        median_ms(lambda: live.remove([items // 2]), 30),
    )
    report.add("updates", work=work.name, items=items, added=added, add_ms=add_ms, remove_ms=remove_ms)
    if work.levels:
        report.most(f"add {added:,} to {items:.0e}, {work.name} (in memory)", add_ms, 20, "ms")
        report.most(f"remove one of {items:.0e}, {work.name} (in memory)", remove_ms, 0.2, "ms")
    for queries, width in SHAPES:
        if queries * width * work.vocab_size > MOST_LOGITS / 4:
            continue
        one, two = (
            record(index, queries, width, work.levels or 4, work.vocab_size, report.options.seed)
            for index in (whole, live)
        )
        times = [
            turn_by_turn(
                {"one": our_step(whole, one, depth), "two": our_step(live, two, depth)}, turns(one, work, report)
            )
            for depth in range(1, len(one.beams))
        ]
        ratio, shape = sum(t["two"] for t in times) / sum(t["one"] for t in times), f"{queries}x{width}"
        report.add("delta", work=work.name, items=items, shape=shape, ratio=ratio)
        report.most(f"2 % in a new segment, {work.name}, {items:.0e}, {shape}", ratio, 1.3 if work.levels else 1.1)


# Denominator, grammar engine ------------------------------------------------------------------------------------------


def bench_softmax(report: Report) -> None:
    """Time the log-sum-exp by torch's log-softmax and by reading the logits once."""
    for queries, vocab_size in ((160, 256), (160, 32_000), (160, 151_936)):
        logits = generator(report.options.seed, "softmax").standard_normal((queries, vocab_size), dtype=np.float32)
        tensor = torch.from_numpy(logits)
        acts: dict[str, Callable[[], Any]] = {
            "ours": lambda a=logits: log_sum_exp(a),
            "torch": lambda t=tensor: torch.log_softmax(t, dim=-1),
            "read": lambda a=logits: a.max(),
        }
        times = turn_by_turn(acts, report.options.turns)
        report.add("softmax", rows=queries, vocab_size=vocab_size, **times)
        if vocab_size == 32_000:
            report.least("log-sum-exp, torch.log_softmax, 160 x 32,000", times["torch"] / times["ours"], 2)
            report.most("log-sum-exp, by reading once, 160 x 32,000", times["ours"] / times["read"], 3)


# The whole run --------------------------------------------------------------------------------------------------------


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
        "turns": options.turns,
        "command": "python benchmarks/constraints.py " + ("--full" if options.full else "--quick"),
    }
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    return facts


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="up to 10^7 items, about a quarter of an hour")
    parser.add_argument("--quick", action="store_true", help="up to 10^5 items, two kinds of catalogue (the default)")
    parser.add_argument("--titles-1e7", action="store_true", help="also build 10^7 titles (4 GB)")
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--static", type=Path, help="a checkout of STATIC, to compare with")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--works", nargs="+", choices=list(WORKS), default=list(WORKS), help="which catalogues")
    parser.add_argument("--xgrammar-seconds", type=float, default=900, help="how long xgrammar may compile")
    parser.add_argument("--pictures", type=Path, help="draw the two pictures into this folder (needs matplotlib)")
    parser.add_argument("--build", help=argparse.SUPPRESS)  # the process that only builds
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.full and options.quick:
        parser.error("--full and --quick exclude each other")
    options.dict_items = 10**6 if options.full else 10**5
    if not options.full:
        options.turns = min(options.turns, 7)
    return options


def run(report: Report) -> None:
    """Measure everything."""
    options = report.options
    bench_softmax(report)
    chosen = FULL if options.full else QUICK
    for name, sizes in ((name, sizes) for name, sizes in chosen.items() if name in options.works):
        work = WORKS[name]
        indexes = {int(items): bench_work(work, int(items), report) for items in sizes}
        if name in ("ids-4x256", "titles-32k"):
            bench_growth(work, indexes, report)
            middle = sorted(indexes)[-1 if len(indexes) == 2 else 1]
            bench_subsets(work, indexes[middle], report)
            bench_updates(work, middle, report)
        if name == "ids-4x256":
            bench_predicate(indexes[max(indexes)], report)
    if options.titles_1e7:
        work = WORKS["titles-32k"]
        _, built = build_elsewhere(work, 10**7, work.draw(10**7, options.seed), report)
        build_bars(work, 10**7, built, report)
    bench_xgrammar(report)
    if options.static is None:
        report.least("STATIC (no --static checkout given)", None, 4)


def main() -> None:
    """Run what was asked for."""
    options = parse()
    torch.set_num_threads(1)
    if options.build:
        print(json.dumps(build_here(WORKS[options.build], options.folder)))
        return
    report = Report(options)
    facts = describe(options)
    warm_up(print)
    run(report)
    print("\n" + report.table())
    missed = sum(met is False for *_, met in report.bars)
    print(f"\n{len(report.bars)} bars, {missed} missed")
    if options.json:
        bars = [dict(zip(("against", "bar", "measured", "met"), bar, strict=True)) for bar in report.bars]
        options.json.write_text(json.dumps({"facts": facts, "bars": bars, **report.results}, indent=1) + "\n")
    if options.pictures:
        draw(report.results, options.pictures)


if __name__ == "__main__":
    main()
