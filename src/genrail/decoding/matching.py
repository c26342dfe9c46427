"""Matches of many n-grams in many documents, and the ones that count: kernels of `evidence`.

`keys` = (flat, off): the n-grams one after the other; key k has flat[off[k]:off[k + 1]].
"""

from __future__ import annotations

import numpy as np

from genrail.arrays import Array
from genrail.constraints.compiled import Arrays, Number, compiled

__all__ = ["accept_matches", "add_unigrams", "list_matches"]


@compiled(inline=True)
def _token(keys: Arrays, key: Number, depth: Number) -> Number:
    """Read a token of a key; -1 behind its end."""
    place = keys[1][key] + depth
    return keys[0][place] if place < keys[1][key + 1] else np.int64(-1)


@compiled(inline=True)
def _first_not_below(keys: Arrays, lo: Number, hi: Number, depth: Number, token: Number) -> Number:
    while lo < hi:
        middle = (lo + hi) >> 1
        if _token(keys, middle, depth) < token:
            lo = middle + 1
        else:
            hi = middle
    return lo


@compiled
def list_matches(
    keys: Arrays, text: Array, begins: Array, documents: Array, found_keys: Array, places: Array
) -> Number:
    """List where sorted keys stand in documents given one after the other; none crosses a border.

    Args:
        keys: Sorted by tokens, each once, int64.
        text: Tokens of all documents, int64.
        begins: Document d is text[begins[d]:begins[d + 1]].
        documents: Filled with the document of each match, ascending; with no room, matches are only counted.
        found_keys: Filled with its key.
        places: Filled with its offset in the document, ascending within it.

    Returns:
        How many matches there are.
    """
    found, all_keys = 0, keys[1].size - 1
    lo: Number
    for d in range(begins.size - 1):
        for at in range(begins[d], begins[d + 1]):
            lo, hi, depth = 0, all_keys, 0
            while at + depth < begins[d + 1]:
                lo = _first_not_below(keys, lo, hi, depth, text[at + depth])
                hi = _first_not_below(keys, lo, hi, depth, text[at + depth] + 1)
                depth += 1
                if lo == hi:
                    break
                if _token(keys, lo, depth) < 0:
                    if documents.size:
                        documents[found], found_keys[found], places[found] = d, lo, at - begins[d]
                    found += 1
                    lo += 1
    return found


@compiled(inline=True)
def _is_free(stamps: Array, begin: Number, end: Number, stamp: Number) -> bool:
    for j in range(begin, end):
        if stamps[j] == stamp:
            return False
    return True


@compiled(inline=True)
def _share_of_new(keys: Arrays, key: Number, token_stamps: Array, stamp: Number) -> float:
    """Give the share of a key's different tokens that no accepted match of the document holds."""
    flat, begin, end = keys[0], keys[1][key], keys[1][key + 1]
    different, new = 0, 0
    for i in range(begin, end):
        seen_before = False
        for j in range(begin, i):
            seen_before = seen_before or flat[j] == flat[i]
        if not seen_before:
            different += 1
            new += token_stamps[flat[i]] != stamp
    return new / different


@compiled
def accept_matches(
    keys: Arrays, matches: Arrays, weights: Array, repetition: float, stamps: Arrays, accepted: Array, gains: Array
) -> None:
    """Accept matches in their order where their positions are free.

    Args:
        keys: The n-grams, best first.
        matches: (documents, keys, offsets), sorted in this order: so within a document the best key comes first.
        weights: Of each key.
        repetition: What of a weight depends on how many of the key's tokens are new in the document, 0 to 1.
        stamps: (positions, tokens): room, -1 throughout; they hold the last document that covered a position or token.
        accepted: Filled: whether the match counts.
        gains: Filled: what it adds. A key adds once per document; where it stands again, it only covers.
    """
    documents, found_keys, places = matches
    position_stamps, token_stamps = stamps
    previous = (np.int64(-1), np.int64(-1))
    for i in range(documents.size):
        d, key = documents[i], found_keys[i]
        begin, end = places[i], places[i] + keys[1][key + 1] - keys[1][key]
        accepted[i] = _is_free(position_stamps, begin, end, d)
        gains[i] = 0.0
        if not accepted[i]:
            continue
        if (d, key) != previous:
            new = _share_of_new(keys, key, token_stamps, d)
            gains[i] = weights[key] * (1.0 - repetition + repetition * new)
            previous = (d, key)
        for j in range(begin, end):
            position_stamps[j] = d
        for j in range(keys[1][key], keys[1][key + 1]):
            token_stamps[keys[0][j]] = d


@compiled
def add_unigrams(
    keys: Arrays,
    matches: Arrays,
    accepted: Array,
    text: Array,
    begins: Array,
    unigrams: Array,
    stamps: Arrays,
    scores: Array,
) -> None:
    """Add to each document's score the weights of its different tokens that no accepted match covers.

    Args:
        keys: The n-grams.
        matches: (documents, keys, offsets) sorted by document.
        accepted: Which of them count.
        text: Tokens of all documents.
        begins: Where each begins.
        unigrams: Weight of each token of the vocabulary.
        stamps: Room as for `accept_matches`, -1 throughout.
        scores: One per document, added to.
    """
    documents, found_keys, places = matches
    position_stamps, token_stamps = stamps
    i = 0
    for d in range(begins.size - 1):
        while i < documents.size and documents[i] == d:
            if accepted[i]:
                begin, end = keys[1][found_keys[i]], keys[1][found_keys[i] + 1]
                for j in range(end - begin):
                    position_stamps[places[i] + j] = d
                    token_stamps[keys[0][begin + j]] = d
            i += 1
        for at in range(begins[d], begins[d + 1]):
            token = text[at]
            if position_stamps[at - begins[d]] != d and token_stamps[token] != d:
                token_stamps[token] = d
                scores[d] += unigrams[token]
