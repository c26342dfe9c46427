"""SEAL's evidence: from the n-grams that a model wrote to the documents that hold them.

Integers in, integers out: a key is an n-gram with its log-probability under the model, a document is a sequence of
tokens in a `SubstringIndex`. A key weighs more, the more probable the model finds it and the rarer it is in the
corpus. Documents are found by rare keys, then scored by all keys that stand in them: the best first, none overlapping
another, with less for tokens that were counted already.

Source: Bevilacqua et al. 2022, Autoregressive Search Engines (SEAL, arXiv 2204.10628), sections 3.2 and 3.3; constants
are those of its released configuration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from genrail.arrays import Array
from genrail.constraints.index import Subset
from genrail.constraints.substring import SubstringIndex
from genrail.decoding.matching import accept_matches, add_unigrams, list_matches
from genrail.errors import LogitsError, SettingsError, ShapeError

__all__ = [
    "Evidence",
    "EvidenceSettings",
    "Keys",
    "Match",
    "find_candidates",
    "gather_evidence",
    "unigram_weights",
    "weigh",
    "weigh_keys",
]


_SURE = 1e-10  # a log-probability of 0 would be infinite odds


@dataclass(frozen=True)
class EvidenceSettings:
    """Say how keys are weighed and documents found and scored.

    Args:
        exponent: Of the log-odds of a key; above 1, few strong keys count more than many weak ones.
        smoothing: Added to counts of the corpus, so that a key of one occurrence isn't infinitely rare.
        rare: Keys of at most so many occurrences find documents; more frequent ones only take part in scoring.
        frequent: Keys of more occurrences are dropped.
        candidates: So many of the documents that rare keys found are scored by all keys.
        repetition: What of a key's weight depends on how many of its tokens are new in the document, 0 to 1.
        unigrams: So many of the model's most probable tokens are weighed as single tokens.
        scoring: `intersective`: a document's score is the sum of all evidence; `best`: its best key alone (the paper's
            LM+FM).
    """

    exponent: float = 2.0  # SEAL
    smoothing: float = 5.0  # SEAL
    rare: int = 1500  # SEAL: bounds what is located
    frequent: int = 10_000_000  # SEAL
    candidates: int = 1500  # SEAL's searcher
    repetition: float = 0.8  # SEAL
    unigrams: int = 5000  # SEAL
    scoring: Literal["intersective", "best"] = "intersective"  # the paper's best variant

    def __post_init__(self) -> None:
        if not 0 <= self.repetition <= 1:
            raise SettingsError(f"repetition is {self.repetition}; it is between 0 and 1")
        if self.scoring not in ("intersective", "best"):
            raise SettingsError(f"scoring is {self.scoring!r}; give 'intersective' or 'best'")
        for name in ("rare", "frequent", "candidates"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if self.exponent <= 0 or self.smoothing <= 0 or self.unigrams < 0:
            raise SettingsError("exponent and smoothing must be above 0, and unigrams not below 0")

    def least(self, tokens: int) -> float:
        """Give the log-probability that an n-gram must exceed to weigh anything in a corpus of so many tokens."""
        return float(np.log((1.0 + self.smoothing) / (tokens + self.smoothing)))


@dataclass(frozen=True, eq=False)
class Keys:
    """Hold weighed n-grams, best first; equal weights by tokens.

    Args:
        ngrams: Tokens of each.
        weights: Above 0, descending, float64.
        counts: Occurrences in the live documents, int64.
    """

    ngrams: tuple[tuple[int, ...], ...]
    weights: Array
    counts: Array

    def __len__(self) -> int:
        return len(self.ngrams)

    @property
    def arrays(self) -> tuple[Array, Array]:
        """Give the tokens one n-gram after the other, and where each begins."""
        return _flat(self.ngrams)


@dataclass(frozen=True)
class Match:
    """Say that a key stands in a document.

    Args:
        ngram: Its tokens.
        offset: Where the first one stands in the document, from 0.
        gain: What it added to the score; 0 where a key stands once more.
    """

    ngram: tuple[int, ...]
    offset: int
    gain: float


@dataclass(frozen=True)
class Evidence:
    """Explain why a document was found.

    Args:
        row: Catalogue row.
        score: What documents are ranked by; comparable within one query only.
        matches: The keys that counted, in the order of the text; none overlaps another.
    """

    row: int
    score: float
    matches: tuple[Match, ...]


def weigh(
    log_probabilities: npt.ArrayLike,
    counts: npt.ArrayLike,
    tokens: int,
    exponent: float = 2.0,
    smoothing: float = 5.0,
    gains: npt.ArrayLike | None = None,
) -> Array:
    """Weigh n-grams: how much more the model expects them than the corpus does.

    The weight is max(0, log-odds of the model - log-odds of the corpus) ** exponent. With `gains`, what the query adds
    bounds it: an n-gram that the model expects whatever is asked says nothing about the query.

    Args:
        log_probabilities: Of each n-gram under the model, given the query, (keys,).
        counts: Occurrences in the corpus, (keys,).
        tokens: Tokens of the corpus.
        exponent: See `EvidenceSettings`.
        smoothing: See `EvidenceSettings`.
        gains: How much the query raises the log-probability of each n-gram, or of its beginning, (keys,).

    Returns:
        float64, (keys,).

    Raises:
        LogitsError: A log-probability is NaN.

    >>> weigh([-1.0, -1.0, -20.0], [2, 2000, 2], tokens=10_000).round(2)
    array([45.2 ,  0.71,  0.  ])
    """
    given = np.asarray(log_probabilities, dtype=np.float64)
    if np.isnan(given).any():
        raise LogitsError(f"the log-probability of key {int(np.flatnonzero(np.isnan(given))[0])} is NaN")
    model = np.minimum(given, 0.0) - _SURE
    corpus = (np.asarray(counts, dtype=np.float64) + smoothing) / (tokens + smoothing)
    with np.errstate(divide="ignore"):  # a key that is the whole corpus has infinite odds there, and no weight
        odds = model - np.log(-np.expm1(model)) - (np.log(corpus) - np.log1p(-np.minimum(corpus, 1.0)))
    if gains is not None:
        odds = np.minimum(odds, np.asarray(gains, dtype=np.float64))
    return np.asarray(np.maximum(odds, 0.0) ** exponent)


def weigh_keys(
    index: SubstringIndex,
    ngrams: Sequence[Sequence[int]],
    log_probabilities: npt.ArrayLike,
    settings: EvidenceSettings | None = None,
    gains: npt.ArrayLike | None = None,
) -> Keys:
    """Weigh what a model wrote, dropping what no live document holds and what says nothing.

    An n-gram that is given twice counts once, with the higher log-probability. For `gains` see `weigh`.

    Raises:
        ShapeError: An n-gram without tokens, or not one log-probability per n-gram.
        LogitsError: A log-probability is NaN.
    """
    settings = settings or EvidenceSettings()
    given = np.asarray(log_probabilities, dtype=np.float64).reshape(-1)
    if len(given) != len(ngrams):
        raise ShapeError(f"{len(ngrams)} n-grams and {len(given)} log-probabilities; give one for each")
    if np.isnan(given).any():
        raise LogitsError(f"the log-probability of key {int(np.flatnonzero(np.isnan(given))[0])} is NaN")
    best: dict[tuple[int, ...], int] = {}
    for number, ngram in enumerate(ngrams):
        key = tuple(int(token) for token in ngram)
        if not key:
            raise ShapeError(f"key {number} has no tokens; an n-gram has one at least")
        if key not in best or given[best[key]] < given[number]:
            best[key] = number
    keys = sorted(best)
    counts = np.array([index.count(index.find(key)) for key in keys], dtype=np.int64)
    chosen = np.array([best[key] for key in keys], dtype=np.int64)
    raised = None if gains is None else np.asarray(gains, dtype=np.float64)[chosen]
    weights = weigh(given[chosen], counts, index.token_count, settings.exponent, settings.smoothing, raised)
    kept = np.flatnonzero((weights > 0) & (counts > 0) & (counts <= settings.frequent))
    kept = kept[np.argsort(-weights[kept], kind="stable")]
    return Keys(tuple(keys[i] for i in kept), weights[kept], counts[kept])


def unigram_weights(
    index: SubstringIndex,
    log_probabilities: npt.ArrayLike,
    settings: EvidenceSettings | None = None,
    anyway: npt.ArrayLike | None = None,
) -> Array:
    """Weigh single tokens by one step of the model; the log-odds as they are, without exponent.

    Args:
        index: The corpus.
        log_probabilities: Of each token as the first one, given the query, (V,), V at least the index's vocabulary.
        settings: How many of the most probable tokens have a weight.
        anyway: The same without a query; a token then weighs at most what the query adds.

    Returns:
        float64, (vocabulary of the index,); 0 for all others and for tokens that no live document holds.
    """
    settings = settings or EvidenceSettings()
    given = np.asarray(log_probabilities, dtype=np.float64).reshape(-1)
    if len(given) < index.vocab_size:
        raise ShapeError(f"{len(given)} log-probabilities of tokens; the index has a vocabulary of {index.vocab_size}")
    tokens, counts = index.children(index.start(1).states[0, 0]) if index.token_count else (np.zeros(0, np.int64),) * 2
    weights = np.zeros(index.vocab_size)
    raised = None if anyway is None else given[tokens] - np.asarray(anyway, dtype=np.float64).reshape(-1)[tokens]
    weights[tokens] = weigh(given[tokens], counts, index.token_count, 1.0, settings.smoothing, raised)
    largest = np.lexsort((np.arange(len(given)), -given))[: settings.unigrams]
    kept = np.zeros(index.vocab_size)
    largest = largest[largest < index.vocab_size]
    kept[largest] = weights[largest]
    return kept


def gather_evidence(
    index: SubstringIndex,
    keys: Keys,
    unigrams: Array | None = None,
    *,
    k: int | None = None,
    subset: Subset | None = None,
    settings: EvidenceSettings | None = None,
) -> list[Evidence]:
    """Rank documents by the keys that stand in them.

    Args:
        index: The corpus.
        keys: From `weigh_keys`.
        unigrams: From `unigram_weights`; None: single tokens do not count.
        k: At most so many; None: all candidates.
        subset: Only these documents.
        settings: See there.

    Returns:
        Best first; equal scores by row. Only documents in which a rare key stands.

    Cost: what rare keys find, at most keys x `rare` occurrences; then one pass over the tokens of `candidates`
    documents.

    >>> index = SubstringIndex.from_sequences([[1, 2, 3], [4, 1, 2], [5, 6, 7]] * 5, vocab_size=10)
    >>> keys = weigh_keys(index, [[1, 2], [4]], [-0.3, -0.5])
    >>> best = gather_evidence(index, keys, k=2)
    >>> [(one.row, [(match.ngram, match.offset) for match in one.matches]) for one in best]
    [(1, [((4,), 0), ((1, 2), 1)]), (4, [((4,), 0), ((1, 2), 1)])]
    """
    settings = settings or EvidenceSettings()
    rows = find_candidates(index, keys, subset=subset, settings=settings)
    texts = [index.sequence(int(row)) for row in rows]
    begins = np.cumsum([0, *map(len, texts)])
    text = np.concatenate([*texts, np.zeros(0, dtype=np.int64)])
    matches = _matches_in(keys, text, begins)
    accepted, gains = _accept(index, keys, matches, settings)
    scores = np.bincount(matches[0], weights=gains, minlength=len(rows)).astype(np.float64)
    if settings.scoring == "best":
        scores = _best_keys(len(rows), keys, matches)
    elif unigrams is not None:
        stamps = _stamps(index, int(np.diff(begins).max(initial=0)))
        add_unigrams(keys.arrays, matches, accepted, text, begins, np.ascontiguousarray(unigrams), stamps, scores)
    order = np.lexsort((rows, -scores))[:k]
    return [_evidence(int(d), int(rows[d]), float(scores[d]), keys, matches, accepted, gains) for d in order]


def find_candidates(
    index: SubstringIndex,
    keys: Keys,
    *,
    subset: Subset | None = None,
    settings: EvidenceSettings | None = None,
) -> Array:
    """Find the documents in which rare keys stand, the best by these keys alone, at most `settings.candidates`.

    Returns:
        Catalogue rows, best first, int64.
    """
    settings = settings or EvidenceSettings()
    rare = np.flatnonzero(keys.counts <= settings.rare)
    places = [index.locate(index.find(keys.ngrams[key]), subset) for key in rare]
    found_keys = np.repeat(rare, [len(place.rows) for place in places])
    none = np.zeros(0, dtype=np.int64)
    rows = np.concatenate([*(place.rows for place in places), none])
    offsets = np.concatenate([*(place.offsets for place in places), none])
    order = np.lexsort((offsets, found_keys, rows))
    candidates, documents = np.unique(rows[order], return_inverse=True)
    matches = documents.astype(np.int64), found_keys[order].astype(np.int64), offsets[order]
    if settings.scoring == "best":
        scores = _best_keys(len(candidates), keys, matches)
    else:
        _, gains = _accept(index, keys, matches, settings)
        scores = np.bincount(matches[0], weights=gains, minlength=len(candidates)).astype(np.float64)
    return candidates[np.lexsort((candidates, -scores))[: settings.candidates]]


# Own matters ------------------------------------------------------------------------------------------------


def _flat(ngrams: Sequence[tuple[int, ...]]) -> tuple[Array, Array]:
    tokens = np.array([token for ngram in ngrams for token in ngram], dtype=np.int64)
    return tokens, np.cumsum([0, *map(len, ngrams)])


def _matches_in(keys: Keys, text: Array, begins: Array) -> tuple[Array, Array, Array]:
    """List all matches of all keys in some documents: documents, keys and offsets, sorted in this order."""
    by_tokens = np.array(sorted(range(len(keys)), key=keys.ngrams.__getitem__), dtype=np.int64)
    ordered = _flat([keys.ngrams[key] for key in by_tokens])
    none = np.zeros(0, dtype=np.int64)
    room = int(list_matches(ordered, text, begins, none, none.copy(), none.copy()))
    documents, found, offsets = (np.empty(room, dtype=np.int64) for _ in range(3))
    if room:
        list_matches(ordered, text, begins, documents, found, offsets)
    found = by_tokens[found]
    order = np.lexsort((offsets, found, documents))
    return documents[order], found[order], offsets[order]


def _stamps(index: SubstringIndex, positions: int) -> tuple[Array, Array]:
    return np.full(positions, -1, dtype=np.int64), np.full(index.vocab_size, -1, dtype=np.int64)


def _accept(
    index: SubstringIndex, keys: Keys, matches: tuple[Array, Array, Array], settings: EvidenceSettings
) -> tuple[Array, Array]:
    """Say which matches count, and what each adds."""
    longest = max((len(ngram) for ngram in keys.ngrams), default=0)
    stamps = _stamps(index, int(matches[2].max(initial=0)) + longest)
    accepted, gains = np.empty(len(matches[0]), dtype=np.bool_), np.empty(len(matches[0]))
    accept_matches(keys.arrays, matches, keys.weights, settings.repetition, stamps, accepted, gains)
    return accepted, gains


def _best_keys(documents: int, keys: Keys, matches: tuple[Array, Array, Array]) -> Array:
    """Give the weight of the best single key of each document."""
    best = np.zeros(documents)
    np.maximum.at(best, matches[0], keys.weights[matches[1]])
    return best


def _evidence(
    document: int,
    row: int,
    score: float,
    keys: Keys,
    matches: tuple[Array, Array, Array],
    accepted: Array,
    gains: Array,
) -> Evidence:
    """Write the story of one document, its matches in the order of the text."""
    begin, end = np.searchsorted(matches[0], [document, document + 1])
    counted = begin + np.flatnonzero(accepted[begin:end])
    counted = counted[np.argsort(matches[2][counted], kind="stable")]
    told = [Match(keys.ngrams[matches[1][i]], int(matches[2][i]), float(gains[i])) for i in counted]
    return Evidence(row, score, tuple(told))
