"""Measure the substring index beside SEAL's: next tokens of n-grams, building, opening, the step under filters.

    python benchmarks/substring.py --exponent 1.15
    python benchmarks/substring.py --tokens 1e8 --memory-only

Text: Zipf tokens from a vocabulary of 50,000 in documents of 100, seeded. N-grams are drawn from it, so that frequent
ones come often. Ours and the peer's are timed turn by turn on one thread, in processor time; a ratio is the peer's
median by ours, so above 1 we are faster. Peers:

* sdsl's `csa_wt_int` over the reversed text, as SEAL calls it (`backward_search` beforehand, `interval_symbols` timed);
  compiled from `substring_sdsl.cpp` with g++ where the library is installed (Debian: `apt-get install libsdsl-dev`);
* pydivsufsort, if it is installed (`pip install pydivsufsort`), for sorting suffixes alone.

The step is that of 10 beams (from the logits to the 20 best continuations, the denominator over the vocabulary
included) at each depth of one walk under the 1 % filter; the 10 % filter allows those documents too.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_variable] = "1"

import numba  # noqa: E402
import numpy as np  # noqa: E402

from genrail.constraints.ngrams import fill_children, is_ngram  # noqa: E402
from genrail.constraints.substring import SubstringIndex  # noqa: E402
from genrail.constraints.substring_segment import room_for_children  # noqa: E402
from genrail.constraints.suffixes import bucket_heads, sort_suffixes  # noqa: E402
from genrail.rng import generator  # noqa: E402

VOCAB, DOCUMENT, BEAMS = 50_000, 100, 10
LENGTHS = {2: 1.8, 3: 5.0, 5: 10.0}  # tokens of an n-gram: the bar
clock = time.process_time


def text_of(tokens: int, seed: int, exponent: float) -> np.ndarray:
    """Draw Zipf tokens in pieces, so that drawing needs little memory."""
    rng = generator(seed, "substring")
    shares = np.cumsum(np.arange(1, VOCAB + 1) ** -exponent)
    names = rng.permutation(VOCAB).astype(np.uint16)
    text = np.empty(tokens, dtype=np.uint16)
    for begin in range(0, tokens, 1_000_000):
        drawn = rng.random(min(1_000_000, tokens - begin)) * shares[-1]
        text[begin : begin + len(drawn)] = names[np.searchsorted(shares, drawn)]
    return text


def offsets_of(tokens: int) -> np.ndarray:
    """Cut a text into documents."""
    return np.append(np.arange(0, tokens, DOCUMENT), tokens)


def seconds(act: Callable[[], Any]) -> float:
    """Time an act once."""
    began = clock()
    act()
    return clock() - began


# Next tokens --------------------------------------------------------------------------------------------------------


@numba.njit
def list_all(segment: Any, ranges: Any, length: int, room: Any) -> int:
    """List what follows every range, as many at a time as a step has beams: checked first, then listed, as it does."""
    found = 0
    for begin in range(0, len(ranges), BEAMS):
        end = min(begin + BEAMS, len(ranges))
        for i in range(begin, end):
            assert is_ngram(segment, ranges[i, 0], ranges[i, 1], length)
        for i in range(begin, end):
            found += fill_children(segment, ranges[i, 0], ranges[i, 1], length, room)
    return found


def draw_ngrams(text: np.ndarray, length: int, count: int, seed: int) -> np.ndarray:
    """Draw n-grams from the text, none across a border, (count, length)."""
    begins = generator(seed, "ngrams", length).integers(0, len(text) // DOCUMENT, count) * DOCUMENT
    begins += generator(seed, "offsets", length).integers(0, DOCUMENT - length, count)
    return text[begins[:, None] + np.arange(length)].astype(np.int64)


class Sdsl:
    """SEAL's index in a process of its own, which answers on a pipe."""

    def __init__(self, program: Path, folder: Path, text: np.ndarray, ngrams: dict[int, np.ndarray]) -> None:
        """Write the reversed text, each document followed by a separator, and start; building is timed inside."""
        cut = np.full((len(text) // DOCUMENT, DOCUMENT + 1), 1, dtype=np.int32)  # 0 is the end of sdsl's text
        cut[:, 1:] = text[: len(cut) * DOCUMENT].reshape(-1, DOCUMENT)[:, ::-1].astype(np.int32) + 2
        cut.tofile(folder / "tokens")
        rows = [np.r_[length, ngram + 2] for length, drawn in ngrams.items() for ngram in drawn]
        np.concatenate(rows).astype(np.int32).tofile(folder / "ngrams")
        arguments = [str(program), str(folder / "tokens"), str(folder / "ngrams")]
        self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.build = float(self._line().split()[1])
        self.size = int(self._line().split()[1])

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def next_tokens(self, length: int) -> tuple[int, float]:
        """Give how many tokens were listed, separators among them, and the seconds it took."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{length}\n")
        self.process.stdin.flush()
        _, _, found, took = self._line().split()
        return int(found), float(took)


def compile_sdsl(folder: Path) -> Path | None:
    """Compile the peer; None, with a line that says why, where that is not possible."""
    compiler = shutil.which("g++")
    if compiler is None:
        print("sdsl: not measured, there is no g++")
        return None
    source, program = Path(__file__).with_name("substring_sdsl.cpp"), folder / "substring_sdsl"
    libraries = ["-lsdsl", "-ldivsufsort", "-ldivsufsort64"]
    options = ["-O3", "-march=native", "-DNDEBUG", "-std=c++17"]
    made = subprocess.run([compiler, *options, str(source), "-o", str(program), *libraries], capture_output=True)
    if made.returncode:
        print("sdsl: not measured, it does not compile; on Debian: apt-get install libsdsl-dev")
        return None
    return program


def bench_next_tokens(index: SubstringIndex, ngrams: dict[int, np.ndarray], sdsl: Sdsl | None, turns: int) -> None:
    """Time the lists of what follows n-grams of each length."""
    room = room_for_children(index.old)
    for length, drawn in ngrams.items():
        ranges = np.array([index.find(ngram)[:2] for ngram in drawn])
        found = list_all(index.old.kernel, ranges, length, room)
        ours, theirs = [], []
        for _ in range(turns):
            ours.append(seconds(lambda: list_all(index.old.kernel, ranges, length, room)))  # noqa: B023
            if sdsl is not None:
                theirs.append(sdsl.next_tokens(length)[1])
        took = statistics.median(ours)
        line = f"next tokens of {length}: {found / len(drawn):8.1f} each, ours {took / len(drawn) * 1e6:8.2f} us"
        if sdsl is not None:
            peer = statistics.median(theirs)
            line += f", sdsl {peer / len(drawn) * 1e6:8.2f} us: {peer / took:5.1f} x (bar {LENGTHS[length]})"
        print(line)


# Building, opening, the step ----------------------------------------------------------------------------------------


def bench_build(text: np.ndarray, sdsl: Sdsl | None) -> SubstringIndex:
    """Build three times, and sort beside pydivsufsort."""
    offsets = offsets_of(len(text))
    SubstringIndex.from_flat(text[:1000], offsets_of(1000), VOCAB)  # compiles
    times = []
    for _ in range(3):
        began = clock()
        index = SubstringIndex.from_flat(text, offsets, VOCAB)
        times.append(clock() - began)
    line = f"build: ours {statistics.median(times):.2f} s, {index.nbytes / len(text):.2f} bytes a token"
    if sdsl is not None:
        ratio = sdsl.build / statistics.median(times)
        line += f"; sdsl {sdsl.build:.2f} s, {sdsl.size / len(text):.2f} bytes a token: {ratio:.1f} x (bar 3)"
    print(line)
    bench_sorting(index)
    return index


def bench_sorting(index: SubstringIndex) -> None:
    """Time the sort of suffixes alone, beside pydivsufsort's."""
    segment = index.old
    heads = np.empty(len(segment.heads), dtype=np.uint32)
    bucket_heads(segment.text, heads)
    ours = [seconds(lambda: sort_suffixes(segment.text, heads)) for _ in range(3)]
    try:
        from pydivsufsort import divsufsort
    except ImportError:
        print(f"sort of suffixes: ours {statistics.median(ours):.2f} s; pydivsufsort is not installed")
        return
    theirs = [seconds(lambda: divsufsort(segment.text.copy())) for _ in range(3)]
    ratio = statistics.median(theirs) / statistics.median(ours)
    print(f"sort of suffixes: ours {statistics.median(ours):.2f} s, pydivsufsort {ratio:.1f} x")


def bench_open(index: SubstringIndex, folder: Path) -> None:
    """Save once and open by map."""
    index.save(folder / "index")
    times = [seconds(lambda: SubstringIndex.load(folder / "index")) for _ in range(21)]
    print(f"open by map: {statistics.median(times) * 1e3:.1f} ms (bar 10)")


def bench_filters(index: SubstringIndex, seed: int, turns: int) -> None:
    """Walk six steps under the 1 % filter and time each with and without filters."""
    rng = generator(seed, "filters")
    share = rng.random(index.row_count)
    index.subset(share < 0.5)  # compiles
    began = clock()
    narrow = index.subset(share < 0.01)
    print(f"filter of 1 %: compiled in {(clock() - began) * 1e3:.0f} ms")
    subsets = {"none": None, "10 %": index.subset(share < 0.1), "1 %": narrow}
    beams, scores = index.start(1), np.zeros((1, 1))
    totals = dict.fromkeys(subsets, 0.0)
    for depth in range(6):
        logits = rng.standard_normal((beams.alive.size, VOCAB), dtype=np.float32) * 2
        took: dict[str, list[float]] = {name: [] for name in subsets}
        for _ in range(turns):
            for name, subset in subsets.items():
                took[name].append(seconds(lambda: index.candidates(beams, logits, scores, 2 * BEAMS, [subset])))  # noqa: B023
        medians = {name: statistics.median(values) for name, values in took.items()}
        totals = {name: totals[name] + medians[name] for name in subsets}
        print_step(f"step at depth {depth}", medians)
        found = index.candidates(beams, logits, scores, 2 * BEAMS, [narrow])
        order = np.argsort(found.complete, axis=1, kind="stable")[:, :BEAMS]
        picks = np.where(order < found.count[:, None], order, -1)
        beams = index.advance(found, picks)
        scores = np.where(picks >= 0, np.take_along_axis(found.scores, np.maximum(picks, 0), axis=1), -np.inf)
    print_step("all six steps", totals)


def print_step(what: str, medians: dict[str, float]) -> None:
    """Print milliseconds and ratios."""
    ratios = ", ".join(f"{name}: {took / medians['none']:.2f} x" for name, took in medians.items() if name != "none")
    print(f"{what}: {medians['none'] * 1e3:.2f} ms without a filter; {ratios} (bar 2)")


def bench_memory(tokens: int, seed: int, exponent: float) -> None:
    """Build in a process of its own and tell its peak above the text."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text"
        text_of(tokens, seed, exponent).tofile(path)
        subprocess.run([sys.executable, __file__, "--build-only", str(path)], check=True)


def build_only(path: Path) -> None:
    """Build the index of a file and tell how far memory rose."""
    text = np.fromfile(path, dtype=np.uint16)
    SubstringIndex.from_flat(text[:1000], offsets_of(1000), VOCAB)
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = clock()
    index = SubstringIndex.from_flat(text, offsets_of(len(text)), VOCAB)
    took = clock() - began
    above = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held) / 1024
    print(f"build of {len(text):.0e} tokens: {took:.1f} s, peak {above:,.0f} MiB above the text (bar 2,384), {index}")


def main() -> None:
    """Read the command line and print hardware, versions and figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokens", type=float, default=1e7)
    parser.add_argument("--exponent", type=float, default=1.0, help="of Zipf's law; with 1.15 n-grams repeat more")
    parser.add_argument("--ngrams", type=int, default=5000, help="of each length")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory-only", action="store_true", help="only build, and tell the peak memory")
    parser.add_argument("--build-only", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.build_only:
        build_only(options.build_only)
        return
    machine = platform.processor() or platform.machine()
    print(f"{machine}, python {platform.python_version()}, numpy {np.__version__}, numba {numba.__version__}")
    print(f"{options.tokens:.0e} tokens, vocabulary {VOCAB}, exponent {options.exponent}, seed {options.seed}")
    if options.memory_only:
        bench_memory(int(options.tokens), options.seed, options.exponent)
        return
    text = text_of(int(options.tokens), options.seed, options.exponent)
    ngrams = {length: draw_ngrams(text, length, options.ngrams, options.seed) for length in LENGTHS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = compile_sdsl(folder)
        sdsl = None if program is None else Sdsl(program, folder, text, ngrams)
        index = bench_build(text, sdsl)
        bench_next_tokens(index, ngrams, sdsl, options.turns)
        bench_open(index, folder)
        bench_filters(index, options.seed, 2 * options.turns + 1)


if __name__ == "__main__":
    main()
