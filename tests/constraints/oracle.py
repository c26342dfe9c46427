"""The constraint step written from its definition: a set of sequences, their prefixes, nothing else."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from genrail.constraints.softmax import log_sum_exp


@dataclass
class Oracle:
    """Sequences by catalogue row; a prefix stands for itself."""

    sequences: dict[int, tuple[int, ...]]

    def below(self, prefix, allowed=None):
        """Rows of the allowed items that begin with the prefix, in catalogue order."""
        depth = len(prefix)
        rows = sorted(self.sequences) if allowed is None else sorted(allowed & self.sequences.keys())
        return [row for row in rows if self.sequences[row][:depth] == prefix]

    def children(self, prefix, allowed=None):
        """Token to number of allowed items, in token order."""
        counts: dict[int, int] = {}
        for row in self.below(prefix, allowed):
            if len(self.sequences[row]) > len(prefix):
                token = self.sequences[row][len(prefix)]
                counts[token] = counts.get(token, 0) + 1
        return dict(sorted(counts.items()))

    def denominator(self, prefix, row, meaning):
        if meaning == "full_softmax":
            return float(log_sum_exp(row[None])[0])
        top, total = -math.inf, 0.0
        for token in self.children(prefix):
            logit = least(row[token])
            if logit > top:
                total, top = total * (math.exp(top - logit) if top > -math.inf else 0.0) + 1.0, logit
            elif logit > -math.inf:
                total += math.exp(logit - top)
        return top + math.log(total) if total > 0 else -math.inf

    def candidates(self, prefixes, logits, scores, count, allowed=None, meaning="full_softmax"):
        """One query: list of (score, parent, token), best first. A dead beam's prefix is None."""
        found = []
        for beam, prefix in enumerate(prefixes):
            if prefix is None:
                continue
            denominator = self.denominator(prefix, logits[beam], meaning)
            base = scores[beam] - denominator if min(scores[beam], denominator) > -math.inf else -math.inf
            found += [(base + least(logits[beam][token]), beam, token) for token in self.children(prefix, allowed)]
        return sorted(found, key=lambda entry: (-entry[0], entry[1], entry[2]))[:count]


@dataclass
class SeveralOracle(Oracle):
    """Lists of sequences by catalogue row: an item is below a prefix when one of its sequences is."""

    sequences: dict[int, list[tuple[int, ...]]]

    def below(self, prefix, allowed=None):
        rows = sorted(self.sequences) if allowed is None else sorted(allowed & self.sequences.keys())
        return [row for row in rows if any(one[: len(prefix)] == prefix for one in self.sequences[row])]

    def children(self, prefix, allowed=None):
        depth, leading = len(prefix), {}
        for row in self.below(prefix, allowed):
            for one in self.sequences[row]:
                if one[:depth] == prefix and len(one) > depth:
                    leading.setdefault(one[depth], set()).add(row)
        return {token: len(leading[token]) for token in sorted(leading)}


def least(logit):
    return -math.inf if math.isnan(logit) else float(logit)


NARROW = (2, 3, 8, 40, 200)  # tokens of 8 bits: each further width of tokens is compiled anew
ALL = (*NARROW, 300, 3000, 70_000)


def random_catalog(rng, *, most=400, vocab_sizes=NARROW):
    """Sequences with shared prefixes, equal ones, and (ragged) ones that begin another; vocabulary size; end token."""
    items = int(rng.choice([0, 1, 2, 3, 10, 40, 100, most]))
    vocab_size = int(rng.choice(vocab_sizes))
    end_token = int(rng.integers(vocab_size)) if rng.random() < 0.5 else None
    used = min(vocab_size, int(rng.choice([2, 3, 10, vocab_size])))
    alphabet = np.unique(rng.integers(0, vocab_size, size=used))
    if end_token is None:
        length = int(rng.integers(1, 7))
        return [tuple(map(int, row)) for row in rng.choice(alphabet, size=(items, length))], vocab_size, None
    alphabet = alphabet[alphabet != end_token]
    longest = 0 if not len(alphabet) else int(rng.integers(0, 8))
    sequences = []
    for _ in range(items):
        body = rng.choice(alphabet, size=int(rng.integers(0, longest + 1))) if longest else []
        sequences.append((*map(int, body), end_token))
    return sequences, vocab_size, end_token


def random_logits(rng, rows, width):
    """Logits of every kind that occurs: smooth, tied, huge, -inf here and there or everywhere, NaN."""
    kind = rng.integers(5)
    logits = rng.standard_normal((rows, width))
    if kind == 1:
        logits = np.round(logits)
    elif kind == 2:
        logits = np.zeros((rows, width))
    elif kind == 3:
        logits *= 1e4
    logits = logits.astype(np.float32)
    if rng.random() < 0.3:
        logits[rng.random(logits.shape) < 0.3] = -np.inf
    if rng.random() < 0.2:
        logits[rng.random(logits.shape) < 0.2] = np.nan
    if rng.random() < 0.1:
        logits[rng.integers(rows)] = -np.inf
    return logits
