"""The n-grams of one segment: narrowing a range of suffixes, and listing the tokens that may follow.

* `segment` = (text, suffixes, heads, tok, start, first, vocabulary, ranks). `text` holds codes from 1 on, each document
  followed by 0; `suffixes` their positions in order; `heads[c]` is the first rank of code c; the codes that follow a
  frequent code c, and the first rank of each pair, are `tok` and `start` at first[c]:first[c + 1]; `vocabulary` gives
  the token of each code, ascending.
* An n-gram of `depth` tokens is a range [lo, hi) of ranks: the suffixes that begin with it. Only a range that holds all
  of them, and all codes within their documents, is a state.
* `children` = (tokens, begins, ends, window): room for what follows one n-gram, ascending by token, uint32; and for
  one block of codes.
"""

from __future__ import annotations

import numpy as np

from genrail.arrays import Array
from genrail.constraints.bits import allows_all, any_allowed, count_allowed, lower_bound, next_set
from genrail.constraints.compiled import Arrays, Number, compiled

__all__ = [
    "code_at",
    "fill_allowed",
    "fill_children",
    "find_ngram",
    "first_out_of_order",
    "followers",
    "is_ngram",
    "list_pairs",
    "mark_documents",
    "narrow",
    "pack_positions",
    "ranks_of_spans",
]


_BLOCK = 16  # suffixes whose next codes are read together: the waits for memory overlap


@compiled(inline=True)
def code_at(segment: Arrays, rank: Number, depth: Number) -> Number:
    """Read the code `depth` positions behind the beginning of a suffix."""
    return np.int64(segment[0][np.int64(segment[1][rank]) + depth])


@compiled
def is_ngram(segment: Arrays, lo: Number, hi: Number, depth: Number) -> Number:
    """Say whether a range can be of an n-gram: its first and last suffix agree, within their documents.

    The suffixes between them are sorted, so they agree too: nothing outside the text will be read.
    """
    text, suffixes = segment[0], segment[1]
    if lo < 0 or hi < lo or hi > segment[7] or depth < 0:
        return False
    if lo == hi:
        return True
    if depth == 0:
        return lo == 0 and hi == segment[7]
    a, b = np.int64(suffixes[lo]), np.int64(suffixes[hi - 1])
    for j in range(depth):
        if text[a + j] == 0 or text[a + j] != text[b + j]:
            return False
    return True


@compiled
def run_end(segment: Arrays, i: Number, hi: Number, depth: Number, code: Number) -> Number:
    """Find the end of the run of a code that holds rank i, galloping."""
    step, low = 1, i
    while low + step < hi and code_at(segment, low + step, depth) == code:
        low += step
        step <<= 1
    high = min(low + step, hi)
    low += 1
    while low < high:
        middle = (low + high) >> 1
        if code_at(segment, middle, depth) == code:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def run_begin(segment: Arrays, lo: Number, i: Number, depth: Number, code: Number) -> Number:
    """Find the begin of the run of a code that holds rank i, galloping, at `lo` or above."""
    step, high = 1, i
    while high - step >= lo and code_at(segment, high - step, depth) == code:
        high -= step
        step <<= 1
    low = max(high - step, lo - 1)  # below `high`, and not of the run
    while low + 1 < high:
        middle = (low + high) >> 1
        if code_at(segment, middle, depth) == code:
            high = middle
        else:
            low = middle
    return high


@compiled
def narrow(segment: Arrays, lo: Number, hi: Number, depth: Number, token: Number) -> tuple[Number, Number]:
    """Find the ranks of an n-gram followed by a token."""
    vocabulary = segment[6]
    code = 1 + lower_bound(vocabulary[1:], token)
    if lo == hi or code == vocabulary.size or np.int64(vocabulary[code]) != token:
        return np.int64(0), np.int64(0)
    if depth == 0:
        return np.int64(segment[2][code]), np.int64(segment[2][code + 1])
    if depth == 1:
        before = code_at(segment, lo, 0)
        a, b = np.int64(segment[5][before]), np.int64(segment[5][before + 1])
        if a < b:
            edge = a + lower_bound(segment[3][a:b], code)
            if edge == b or np.int64(segment[3][edge]) != code:
                return np.int64(0), np.int64(0)
            end = np.int64(segment[4][edge + 1]) if edge + 1 < b else hi
            return np.int64(segment[4][edge]), end
    low, high = lo, hi
    while low < high:
        middle = (low + high) >> 1
        if code_at(segment, middle, depth) < code:
            low = middle + 1
        else:
            high = middle
    if low == hi or code_at(segment, low, depth) != code:
        return np.int64(0), np.int64(0)
    return low, run_end(segment, low, hi, depth, code)


@compiled(inline=True)
def _put(children: Arrays, found: Number, token: Number, begin: Number, end: Number) -> Number:
    children[0][found] = token
    children[1][found] = begin
    children[2][found] = end
    return found + 1


@compiled
def _first_codes(segment: Arrays, children: Arrays) -> Number:
    heads, vocabulary = segment[2], segment[6]
    found: Number = 0
    for c in range(1, vocabulary.size):
        found = _put(children, found, vocabulary[c], np.int64(heads[c]), np.int64(heads[c + 1]))
    return found


@compiled
def _pairs(segment: Arrays, hi: Number, a: Number, b: Number, children: Arrays) -> Number:
    tok, start, vocabulary = segment[3], segment[4], segment[6]
    found: Number = 0
    for e in range(a, b):
        end = np.int64(start[e + 1]) if e + 1 < b else hi
        found = _put(children, found, vocabulary[tok[e]], np.int64(start[e]), end)
    return found


@compiled
def _runs(segment: Arrays, lo: Number, hi: Number, depth: Number, children: Arrays) -> Number:
    """List the runs of codes behind an n-gram: blocks where runs are short, galloping where one fills a block."""
    vocabulary, window = segment[6], children[3]
    if hi - lo == 1:
        code = code_at(segment, lo, depth)
        return _put(children, 0, vocabulary[code], lo, hi) if code else 0
    found: Number = 0
    i, code = lo, np.int64(0)  # the suffixes that end here come first, with code 0: they are no child
    begin = lo
    while i < hi:
        size = min(_BLOCK, hi - i)
        for j in range(size):
            window[j] = code_at(segment, i + j, depth)
        for j in range(size):
            if window[j] != code:
                if code:
                    found = _put(children, found, vocabulary[code], begin, i + j)
                code, begin = window[j], i + j
        i += size
        if size == _BLOCK and i < hi and window[0] == code:
            i = run_end(segment, i - 1, hi, depth, code)
    if code:
        found = _put(children, found, vocabulary[code], begin, hi)
    return found


@compiled
def fill_children(segment: Arrays, lo: Number, hi: Number, depth: Number, children: Arrays) -> Number:
    """List what follows an n-gram; return how many."""
    if lo == hi:
        return 0
    if depth == 0:
        return _first_codes(segment, children)
    if depth == 1:
        code = code_at(segment, lo, 0)
        a, b = np.int64(segment[5][code]), np.int64(segment[5][code + 1])
        if a < b:
            return _pairs(segment, hi, a, b, children)
    return _runs(segment, lo, hi, depth, children)


@compiled(inline=True)
def _next_allowed(bits: Arrays, rank: Number, hi: Number) -> Number:
    """Find the first allowed rank in [rank, hi) of a plain bitmap or a plain list; hi when there is none."""
    if bits[3]:
        listed = lower_bound(bits[2], rank)
        return min(np.int64(bits[2][listed]), hi) if listed < bits[2].size else hi
    return next_set(bits[0], rank, hi)


@compiled
def _allowed_runs(segment: Arrays, bits: Arrays, lo: Number, hi: Number, depth: Number, children: Arrays) -> Number:
    """List the runs that hold an allowed rank, going from one such rank to the next."""
    vocabulary = segment[6]
    found: Number = 0
    least = lo
    rank = _next_allowed(bits, lo, hi)
    while rank < hi:
        code = code_at(segment, rank, depth)
        end = run_end(segment, rank, hi, depth, code)
        if code:
            found = _put(children, found, vocabulary[code], run_begin(segment, least, rank, depth, code), end)
        least = end
        rank = _next_allowed(bits, end, hi)
    return found


@compiled
def _keep_allowed(bits: Arrays, found: Number, children: Arrays) -> Number:
    """Drop the children without an allowed rank."""
    kept: Number = 0
    for i in range(found):
        begin, end = np.int64(children[1][i]), np.int64(children[2][i])
        if any_allowed(bits, begin, end):
            kept = _put(children, kept, children[0][i], begin, end)
    return kept


@compiled
def fill_allowed(
    segment: Arrays, bits: Arrays, lo: Number, hi: Number, depth: Number, children: Arrays, all_of_them: bool
) -> tuple[Number, Number]:
    """List what follows an n-gram in allowed documents.

    Args:
        segment: The segment.
        bits: The allowed ranks.
        lo: First rank of the n-gram.
        hi: Behind its last rank.
        depth: Its tokens.
        children: Room for the result.
        all_of_them: The others may stay in the list where leaving them out costs more; the caller asks again.

    Returns:
        How many; and whether the caller has to ask which of them hold an allowed rank.
    """
    if allows_all(bits) or lo == hi:
        return fill_children(segment, lo, hi, depth, children), False
    allowed = count_allowed(bits, lo, hi)
    if allowed == 0:
        return 0, False
    plain = bits[3] or bits[2].size == 0
    if plain and allowed * 8 < hi - lo and (depth > 1 or allowed * 256 < hi - lo):
        return _allowed_runs(segment, bits, lo, hi, depth, children), False
    found = fill_children(segment, lo, hi, depth, children)
    return (found, True) if all_of_them else (_keep_allowed(bits, found, children), False)


@compiled
def list_pairs(segment: Arrays, frequent: Number, children: Arrays, tok: Array, start: Array, first: Array) -> Number:
    """List what follows each code of at least `frequent` suffixes; return how many pairs there are.

    With empty `tok` and `start` they are only counted. The vocabulary of the segment must be the codes themselves.
    """
    heads = segment[2]
    pairs = 0
    for c in range(1, heads.size - 1):
        first[c] = pairs
        lo, hi = np.int64(heads[c]), np.int64(heads[c + 1])
        if hi - lo < frequent:
            continue
        found = _runs(segment, lo, hi, 1, children)
        if tok.size:
            for i in range(found):
                tok[pairs + i] = children[0][i]
                start[pairs + i] = children[1][i]
        pairs += found
    first[heads.size - 1] = pairs
    return pairs


@compiled
def mark_documents(segment: Arrays, begins: Array, ranks: Array, marks: Array) -> None:
    """Mark the documents in which the suffixes of some ranks stand."""
    suffixes = segment[1]
    for i in range(ranks.size):
        marks[lower_bound(begins, np.int64(suffixes[ranks[i]]) + 1) - 1] = True


@compiled
def find_ngram(segment: Arrays, tokens: Array) -> tuple[Number, Number]:
    """Find the ranks of an n-gram."""
    lo: Number = np.int64(0)
    hi: Number = np.int64(segment[7])
    for depth in range(tokens.size):
        lo, hi = narrow(segment, lo, hi, depth, tokens[depth])
    return lo, hi


@compiled
def followers(segment: Arrays, lo: Number, hi: Number, depth: Number) -> Number:
    """Find the first rank of an n-gram whose document goes on behind it; `hi` when none does."""
    if lo == hi or code_at(segment, lo, depth):
        return lo
    return run_end(segment, lo, hi, depth, 0)


@compiled
def pack_positions(segment: Arrays, begins: Array, allowed: Array, positions: Array, words: Array) -> None:
    """Turn a mask over documents into a bitmap over ranks, by way of a bitmap over positions of the text.

    The second one is small enough to stay in cache, where it is read in the order of the suffixes.
    """
    suffixes = segment[1]
    for w in range(positions.size):
        positions[w] = 0
    for d in range(allowed.size):
        if allowed[d]:
            for position in range(np.int64(begins[d]), np.int64(begins[d + 1])):
                positions[position >> 6] |= np.uint64(1) << np.uint64(position & 63)
    for w in range(words.size):
        word = np.uint64(0)
        for i in range(w << 6, min((w << 6) + 64, suffixes.size)):
            at = np.int64(suffixes[i])
            word |= ((positions[at >> 6] >> np.uint64(at & 63)) & np.uint64(1)) << np.uint64(i & 63)
        words[w] = word


@compiled
def ranks_of_spans(segment: Arrays, begins: Array, documents: Array, effort: Number, ranks: Array) -> Number:
    """Find the ranks of all suffixes of some documents by binary search; return how many, or -1.

    Args:
        segment: The segment.
        begins: Where each document begins in the text.
        documents: Which documents.
        effort: At most so many codes are compared; -1 comes back when they do not suffice (long texts that are equal).
        ranks: Room for one rank per token; filled in the order of the text.
    """
    text, suffixes, heads = segment[0], segment[1], segment[2]
    found: Number = 0
    for d in documents:
        for position in range(np.int64(begins[d]), np.int64(begins[d + 1]) - 1):
            code = np.int64(text[position])
            low, high = np.int64(heads[code]), np.int64(heads[code + 1])
            while high - low > 1:
                middle = (low + high) >> 1
                other, j = np.int64(suffixes[middle]), 1
                while text[position + j] == text[other + j] and text[position + j]:
                    j += 1
                effort -= j
                if effort < 0:
                    return -1
                a, b = np.int64(text[position + j]), np.int64(text[other + j])
                if b < a or (a == b and other <= position):
                    low = middle
                else:
                    high = middle
            ranks[found] = low
            found += 1
    return found


@compiled
def first_out_of_order(segment: Arrays, ranks: Array) -> Number:
    """Check that the suffixes are all there, each once and in order; return the first wrong rank, or -1.

    A suffix is compared by its first code and the rank of the next one, so that long repeats cost nothing.

    Args:
        segment: The segment.
        ranks: Room for one number per position of the text, uint32.
    """
    text, suffixes = segment[0], segment[1]
    separators = 0
    for position in range(text.size):
        ranks[position] = 0
        if text[position] == 0:
            separators += 1
            ranks[position] = separators
    for i in range(suffixes.size):
        at = np.int64(suffixes[i])
        if at >= text.size or ranks[at]:
            return i
        ranks[at] = separators + 1 + i
    for i in range(1, suffixes.size):
        a, b = np.int64(suffixes[i - 1]), np.int64(suffixes[i])
        if text[a] > text[b] or (text[a] == text[b] and ranks[a + 1] > ranks[b + 1]):
            return i
    return -1
