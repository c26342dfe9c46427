"""Compile titles as xgrammar's choice list, in a process that may be stopped, beside building an index of them."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
from typing import Any

from constraint_peers import clock, median_ms, titles

from genrail.constraints import Trie
from genrail.rng import generator

VOCAB_SIZE = 32_000


def compile_choices(texts: list[str], words: list[str], sender: Any) -> None:
    """Compile and tell the processor seconds that it took."""
    import xgrammar

    compiler = xgrammar.GrammarCompiler(xgrammar.TokenizerInfo(words), max_threads=1)
    began = clock()
    compiler.compile_grammar("root ::= " + " | ".join(json.dumps(text) for text in texts))
    sender.send(clock() - began)


def xgrammar_seconds(texts: list[str], words: list[str], most: float) -> tuple[float, bool]:
    """Give the seconds of one compilation, or the limit; and whether it was done by then."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=compile_choices, args=(texts, words, sender))
    process.start()
    done = receiver.poll(most)
    taken = receiver.recv() if done else most
    process.kill()
    process.join()
    return taken, done


def bench_xgrammar(report: Any) -> None:
    """Time building an index of titles by compiling them as a choice list; a limit reached is a lower bound."""
    items = 100_000 if report.options.full else 1_000
    if importlib.util.find_spec("xgrammar") is None:
        report.least(f"xgrammar, choice list of {items:,} titles (not installed)", None, 500)
        return
    tokens, offsets = titles(generator(report.options.seed, "xgrammar"), items, VOCAB_SIZE)
    words = [f"w{token} " for token in range(VOCAB_SIZE)]
    texts = ["".join(words[t] for t in tokens[a : b - 1]) for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
    theirs, done = xgrammar_seconds(texts, words, report.options.xgrammar_seconds)
    ours = median_ms(lambda: Trie.from_flat(tokens, offsets, VOCAB_SIZE, end_token=0), 3) / 1e3
    report.add("xgrammar", items=items, xgrammar_s=theirs, done=done, ours_s=ours)
    print(f"\nxgrammar, {items:,} titles: {theirs:.3g} s{'' if done else ', not done'}; ours {ours:.3g} s", flush=True)
    remark = "" if done else ", stopped"
    report.least(f"xgrammar, choice list of {items:,} titles{remark}", theirs / ours, 500)
