"""Catalogues, recorded decodes, and the steps of every peer, for `constraints.py`."""

from __future__ import annotations

import importlib.util
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genrail.constraints import Trie
from genrail.rng import generator

clock = time.thread_time  # seconds of this thread


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


def following(trie: dict[int, Any], prefix: list[int]) -> list[int]:
    """List the tokens that may follow, as `Trie.get` of GENRE does."""
    if not prefix:
        return list(trie)
    return following(trie[prefix[0]], prefix[1:]) if prefix[0] in trie else []


def dict_step(root: dict[int, Any], walk: Walk, depth: int) -> Callable[[], Any]:
    """Make the step of `generate` with GENRE's trie behind the processor of Hugging Face transformers."""
    from transformers import PrefixConstrainedLogitsProcessor

    prefixes = [prefix or (0,) * depth for prefix in walk.prefixes[depth]]  # a dead beam's is empty
    width = len(prefixes) // walk.queries
    ids = torch.tensor([prefix if prefix[0] in root else next(iter(prefixes)) for prefix in prefixes])
    logits = torch.from_numpy(walk.logits[depth])
    scores = torch.from_numpy(walk.scores[depth]).float()
    processor = PrefixConstrainedLogitsProcessor(lambda _, sent: following(root, sent.tolist()) or [0], width)

    def step() -> Any:
        table = processor(ids, torch.log_softmax(logits, dim=-1)).view(walk.queries, width, -1)
        return torch.topk((table + scores[:, :, None]).view(walk.queries, -1), 2 * walk.width)

    return step


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
