"""Sort the suffixes of many documents: a suffix ends where its document does.

The text holds the documents one after the other, as codes from 1 on, each followed by the separator 0. A suffix is
smaller where its document ends earlier; suffixes that are equal to the end of their documents stand in the order of the
text. So no comparison crosses a border, and the order does not depend on how it was found.

First all suffixes are put in the buckets of their first code, then each bucket is sorted by as many further codes as
fit 64 bits. What is still tied is sorted by the ranks of the suffixes h positions later, with h doubling (Larsson and
Sadakane 2007, Faster suffix sorting). Separators have ranks of their own, so that ties end with the documents.
"""

from __future__ import annotations

import numpy as np

from genrail.arrays import Array
from genrail.constraints.bits import next_set
from genrail.constraints.compiled import Arrays, Number, compiled
from genrail.constraints.sorting import stable_sort

__all__ = ["bucket_heads", "sort_suffixes"]


_MERGED = 256  # up to here merging runs is faster than counting digits
_LARGEST = 1 << 25  # larger buckets (0.8 GB of keys) are left to doubling: it takes longer and no more memory


@compiled
def bucket_heads(text: Array, heads: Array) -> None:
    """Fill `heads[c]` with the number of suffixes that begin with a code below c; separators begin none."""
    for c in range(heads.size):
        heads[c] = 0
    for position in range(text.size):
        if text[position]:
            heads[np.int64(text[position]) + 1] += 1
    for c in range(1, heads.size):
        heads[c] += heads[c - 1]


@compiled
def _fill_buckets(text: Array, heads: Array, suffixes: Array) -> None:
    """Write the positions of each first code in the order of the text; `heads` is moved and moved back."""
    for position in range(text.size):
        code = np.int64(text[position])
        if code:
            suffixes[np.int64(heads[code])] = position
            heads[code] += 1
    for c in range(heads.size - 1, 0, -1):
        heads[c] = heads[c - 1]
    heads[0] = 0


@compiled(inline=True)
def _count_digits(keys: Array, size: Number, counts: Array) -> None:
    for b in range(8):
        for digit in range(256):
            counts[b, digit] = 0
    for i in range(size):
        key = keys[i]
        for b in range(8):
            counts[b, np.int64((key >> np.uint64(8 * b)) & np.uint64(255))] += 1


@compiled
def _digits(keys: Array, values: Array, size: Number, spare_keys: Array, spare_values: Array, counts: Array) -> None:
    """Sort keys with their values, stable, byte by byte; a byte that is the same in all is passed over."""
    _count_digits(keys, size, counts)
    there = True  # whether the current order stands in `keys`
    for b in range(8):
        shift = np.uint64(8 * b)
        if counts[b, np.int64((keys[0] >> shift) & np.uint64(255))] == size:
            continue
        before = 0
        for digit in range(256):
            counts[b, digit], before = before, before + counts[b, digit]
        if there:
            _scatter(keys, values, size, spare_keys, spare_values, counts[b], shift)
        else:
            _scatter(spare_keys, spare_values, size, keys, values, counts[b], shift)
        there = not there
    if not there:
        for i in range(size):
            keys[i], values[i] = spare_keys[i], spare_values[i]


@compiled(inline=True)
def _scatter(
    keys: Array, values: Array, size: Number, to_keys: Array, to_values: Array, places: Array, shift: Number
) -> None:
    for i in range(size):
        key = keys[i]
        digit = np.int64((key >> shift) & np.uint64(255))
        place = places[digit]
        places[digit] = place + 1
        to_keys[place] = key
        to_values[place] = values[i]


@compiled(inline=True)
def _sort(keys: Array, values: Array, size: Number, spare_keys: Array, spare_values: Array, counts: Array) -> None:
    if size <= _MERGED:
        stable_sort(keys, values, size, spare_keys, spare_values)
    else:
        _digits(keys, values, size, spare_keys, spare_values, counts)


@compiled(inline=True)
def _following(text: Array, position: Number, codes: Number, bits: Number) -> Number:
    """Pack the codes behind a position; zeros from the end of its document on."""
    key = np.uint64(0)
    for j in range(1, codes + 1):
        code = np.uint64(text[position + j])
        if code == np.uint64(0):
            return key << np.uint64(bits * (codes - j + 1))
        key = (key << np.uint64(bits)) | code
    return key


@compiled(inline=True)
def _mark(ties: Array, rank: Number) -> None:
    ties[rank >> 6] |= np.uint64(1) << np.uint64(rank & 63)


@compiled(inline=True)
def _write_runs(
    suffixes: Array,
    ranks: Array,
    ties: Array,
    span: tuple[Number, Number],
    separators: Number,
    last: np.uint64,
    room: Arrays,
) -> Number:
    """Write a sorted bucket, mark where tied suffixes begin, and return how many are tied.

    Equal keys are a tie unless the bits `last` are 0: then their documents end, and they stand in the text's order.
    """
    begin, size = span
    keys, values = room[0], room[1]
    tied, i = 0, 0
    while i < size:
        j = i + 1
        while j < size and keys[j] == keys[i] and keys[i] & last:
            j += 1
        if j - i > 1:
            tied += j - i
            _mark(ties, begin + i)
        for k in range(i, j):
            suffixes[begin + k] = values[k]
            ranks[values[k]] = separators + begin + j - 1
        i = j
    return tied


@compiled
def _sort_buckets(
    text: Array, heads: Array, suffixes: Array, ranks: Array, ties: Array, shape: Array, room: Arrays, counts: Array
) -> Number:
    """Sort each bucket by its next codes; give suffixes their ranks, tied ones that of the last among them.

    A bit of `ties` is set where a group of tied suffixes begins.

    Returns:
        How many suffixes are tied with another.
    """
    codes, bits, largest, separators = shape[0], shape[1], shape[2], shape[3]
    keys, values, spare_keys, spare_values = room
    last = (np.uint64(1) << np.uint64(bits)) - np.uint64(1)
    tied = np.int64(0)
    for c in range(1, heads.size - 1):
        begin, end = np.int64(heads[c]), np.int64(heads[c + 1])
        size = end - begin
        if size > largest:
            tied += size
            _mark(ties, begin)
            for i in range(begin, end):
                ranks[suffixes[i]] = separators + end - 1
            continue
        for i in range(size):
            values[i] = suffixes[begin + i]
            keys[i] = _following(text, np.int64(values[i]), codes, bits)
        if size > 1:
            _sort(keys, values, size, spare_keys, spare_values, counts)
        tied += _write_runs(suffixes, ranks, ties, (begin, size), separators, last, room)
    return tied


@compiled
def _tied_groups(
    suffixes: Array, ranks: Array, separators: Number, ties: Array, groups: Array
) -> tuple[Number, Number]:
    """List where groups of tied suffixes begin; return how many there are and the size of the largest."""
    found, largest = 0, np.int64(0)
    begin = next_set(ties, 0, suffixes.size)
    while begin < suffixes.size:
        groups[found] = begin
        found += 1
        largest = max(largest, np.int64(ranks[suffixes[begin]]) - separators + 1 - begin)
        begin = next_set(ties, begin + 1, suffixes.size)
    return found, largest


@compiled
def _split_groups(
    suffixes: Array,
    ranks: Array,
    separators: Number,
    h: Number,
    groups: Array,
    found: Number,
    smaller: Array,
    room: Arrays,
    counts: Array,
) -> Number:
    """Sort each group by the ranks h positions later and list the groups that are left; return how many."""
    keys, values, spare_keys, spare_values = room
    left = 0
    for g in range(found):
        begin = np.int64(groups[g])
        size = np.int64(ranks[suffixes[begin]]) - separators + 1 - begin
        for i in range(size):
            values[i] = suffixes[begin + i]
            keys[i] = np.uint64(ranks[np.int64(values[i]) + h])
        _sort(keys, values, size, spare_keys, spare_values, counts)
        i = 0
        while i < size:
            j = i + 1
            while j < size and keys[j] == keys[i]:
                j += 1
            if j - i > 1:
                smaller[left] = begin + i
                left += 1
            for k in range(i, j):
                suffixes[begin + k] = values[k]
                ranks[values[k]] = separators + begin + j - 1
            i = j
    return left


@compiled
def _rank_separators(text: Array, ranks: Array) -> Number:
    """Give each separator its number among them; return how many there are."""
    found = 0
    for position in range(text.size):
        if text[position] == 0:
            ranks[position] = found
            found += 1
    return found


def _room(size: int) -> tuple[Array, Array, Array, Array]:
    return (
        np.empty(size, np.uint64),
        np.empty(size, np.uint32),
        np.empty(size, np.uint64),
        np.empty(size, np.uint32),
    )


def sort_suffixes(text: Array, heads: Array, *, largest: int = _LARGEST) -> Array:
    """Sort the suffixes of all documents.

    Args:
        text: Codes from 1 on, uint16 or uint32, each document followed by 0; fewer than 2^32 - 1.
        heads: From `bucket_heads`, uint32, (codes + 2,).
        largest: Buckets of more suffixes than this, 1 at least, are sorted by doubling alone.

    Returns:
        Positions of the suffixes that do not begin with a separator, smallest first, uint32.

    Cost: about 0.2 us and 8 bytes per token, and 24 bytes per suffix of the largest bucket. Texts that repeat
    themselves over n tokens cost log2(n) rounds over what repeats.

    >>> text = np.array([1, 2, 1, 0, 2, 1, 0], dtype=np.uint16)
    >>> heads = np.empty(4, dtype=np.uint32); bucket_heads(text, heads)
    >>> sort_suffixes(text, heads)
    array([2, 5, 0, 1, 4], dtype=uint32)
    """
    suffixes = np.empty(int(heads[-1]), dtype=np.uint32)
    ranks = np.empty(len(text), dtype=np.uint32)
    separators = int(_rank_separators(text, ranks))
    _fill_buckets(text, heads, suffixes)
    bits = max(1, int(len(heads) - 2).bit_length())
    codes = 64 // bits
    sizes = np.diff(heads.astype(np.int64))
    counts = np.empty((8, 256), dtype=np.int64)
    room = _room(int(sizes[sizes <= largest].max(initial=0)))
    shape = np.array([codes, bits, largest, separators])
    ties = np.zeros((len(suffixes) >> 6) + 1, dtype=np.uint64)
    tied = int(_sort_buckets(text, heads, suffixes, ranks, ties, shape, room, counts))
    del room
    if tied:
        _double(suffixes, ranks, separators, ties, tied, 1 if sizes.max() > largest else codes + 1, counts)
    return suffixes


def _double(suffixes: Array, ranks: Array, separators: int, ties: Array, tied: int, h: int, counts: Array) -> None:
    """Sort what is tied over its first h codes, doubling h until nothing is."""
    groups, smaller = (np.empty(tied // 2, dtype=np.uint32) for _ in range(2))
    found, largest = _tied_groups(suffixes, ranks, separators, ties, groups)
    room = _room(int(largest))
    while found:
        found = _split_groups(suffixes, ranks, separators, h, groups, found, smaller, room, counts)
        groups, smaller = smaller, groups
        h *= 2
