"""BM25: the words of the query in the items' texts, as they stand, unfinished, or mistyped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from genrail.catalog.synonyms import read_synonyms
from genrail.errors import SettingsError
from genrail.finders.asked import Asked, Synonyms, Word, read_words
from genrail.finders.scoring import DECAYS, ContentScoring, Integers, Values, Weights, check_content
from genrail.finders.word_index import WordIndex
from genrail.finding.finder import Change, Finder, Json, Progress, Recipe
from genrail.models.words import English, Plain, pairs, words
from genrail.types import JsonObject

if TYPE_CHECKING:
    from genrail.catalog import Catalog
    from genrail.finding.data import Data
    from genrail.finding.requests import Request
    from genrail.models.text_encoder import Encoder

__all__ = ["BM25", "BM25Recipe"]

PHRASE_ROWS = 1000  # rows with all words of a phrase whose texts are read for it, the best first
PAIR_K1, PAIR_B = 1.5, 0.75  # of pairs: bm25s's
ENGLISH, PLAIN = English(), Plain()


class BM25(ContentScoring):
    """Rank items by BM25 (Lucene's variant), English stop words left out, words stemmed by Snowball.

    Items that share no word with the query follow with score 0, in seeded order. Three things help where plain words
    do not:

    - The last word, when no item holds it, is read as the beginning of one: "trail sho".
    - Another word that no item holds and of four letters or more is read as the most frequent word that is one letter
      off (one left out, one too many, one wrong, two swapped); a warning says so.
    - Words in quotes are a phrase: items that hold it come before all others.

    A guessed word counts half. A query whose words all occur is scored by plain BM25. Words that have synonyms score by
    whichever of these an item holds best. A history is read as the titles
    of its items; see `ContentScoring` for how later ones count more and how words and a history are added.

    Args:
        catalog: The items; what is searched is `catalog.texts()`, or `texts`.
        k1: How soon repeating a word stops helping, 0 or more.
        b: How much long texts are held back, 0 to 1.
        texts: Another text for each row, shape (rows,).
        seed: Of the order between equal scores.
        decay: What each step back in a history costs, above 0 and at most 1.
        history: How many of the last items count.
        title_weight, pairs, synonyms: See `BM25Recipe`.

    Raises:
        SettingsError: A setting outside its range, or another number of texts than rows.

    Cost: O(rows that hold a word of the query + rows): 200,000 titles of nine words are indexed in 2 s, and four words
    take 4 ms there (one core). Adding items costs their own words and one pass over the rows.
    Source: Robertson et al. 1994; Kamphuis et al. 2020 for the variants.

    >>> from genrail.catalog import Catalog
    >>> shop = Catalog.from_items([{"id": "a", "title": "trail shoes"}, {"id": "b", "title": "wool hat"}])
    >>> BM25(shop).search("a shoe for the trail", k=1)[0].item_id
    'a'
    >>> BM25(shop).search("trial sh", k=1).warnings
    ('"trial" is in no item; it was read as "trail"',)
    """

    name = "BM25"

    def __init__(
        self,
        catalog: Catalog,
        *,
        k1: float = 1.5,
        b: float = 0.75,
        texts: Sequence[str] | None = None,
        seed: int = 0,
        decay: float = 0.7,
        history: int = 20,
        title_weight: int = 1,
        pairs: float = 0.0,
        synonyms: Sequence[str] = (),
    ) -> None:
        recipe = BM25Recipe(k1, b, decay, history, title_weight, pairs, tuple(synonyms))
        texts = recipe.texts(catalog) if texts is None else texts
        if len(texts) != len(catalog):
            raise SettingsError(f"there are {len(texts)} texts for {len(catalog)} rows; give one text per row")
        index = WordIndex.of(texts, ENGLISH, catalog.live)
        pair_index = WordIndex.of(_pairs(catalog), PLAIN, catalog.live) if pairs > 0.0 else None
        self._set(catalog, recipe, index, pair_index, seed)

    def _set(
        self, catalog: Catalog, recipe: BM25Recipe, index: WordIndex, pair_index: WordIndex | None, seed: int
    ) -> None:
        self.catalog = catalog
        self.recipe: BM25Recipe = recipe
        self.index = index
        self.pair_index = pair_index
        self.seed = seed

    @cached_property
    def _norms(self) -> Weights:
        """What a row's length adds below the fraction, k1 (1 - b + b length / mean length)."""
        k1, b = self.recipe.k1, self.recipe.b
        return _norms(self.index, k1, b)

    @cached_property
    def _pair_norms(self) -> Weights:
        assert self.pair_index is not None
        return _norms(self.pair_index, PAIR_K1, PAIR_B)

    def text_scores(self, texts: Sequence[str]) -> Iterator[Values]:
        """Score all rows for each text, shape (rows,) each; phrases in it are read as words."""
        return (
            self._with_pairs(text, self._sum(read_words(text, self.index, help=False), 1.0, None)) for text in texts
        )

    def word_scores(self, requests: Sequence[Request]) -> Iterator[Values]:
        """Score all rows for the words of each request, phrases among them."""
        for request in requests:
            asked = self._asked(request)
            scores = self._with_pairs(request.text or "", self._sum(asked, 1.0, None))
            for phrase in asked.phrases:
                scores[self._with_phrase(phrase, scores, request)] += asked.most
            yield scores

    def item_scores(self, rows: Integers, weights: Weights) -> Values:
        """Score all rows by the weighted sum of BM25 with the titles of some items, shape (rows,)."""
        total = np.zeros(len(self.catalog))
        titles = self.catalog.titles
        for row, weight in zip(rows.tolist(), weights.tolist(), strict=True):
            self._sum(read_words(titles[row], self.index, help=False), weight, total)
        return total

    def _asked(self, request: Request, help: bool = True) -> Asked:
        return read_words(request.text or "", self.index, help=help, synonyms=self.recipe.rules)

    def _sum(self, asked: Asked, weight: float, total: Weights | None) -> Weights:
        total = np.zeros(len(self.catalog)) if total is None else total
        self._add(asked.words, weight, total)
        for choice in asked.choices:
            best = np.zeros(len(self.catalog))
            for _, meant in choice.synonyms:
                scores = np.zeros(len(self.catalog))
                self._add(meant, weight, scores)
                np.maximum(best, scores, out=best)
            total += best
        return total

    def _add(self, asked: Sequence[Word], weight: float, total: Weights) -> None:
        for word in asked:
            for term in word.terms:
                self.index.add(term, weight * word.idf, self._norms, total)

    def _with_pairs(self, text: str, scores: Weights) -> Weights:
        """Add what words that follow each other in the query and in a text are worth."""
        if self.pair_index is not None:
            asked = read_words(" ".join(pairs(text, ENGLISH)), self.pair_index, help=False)
            for word in asked.words:
                for term in word.terms:
                    self.pair_index.add(term, self.recipe.pairs * word.idf, self._pair_norms, scores)
        return scores

    def _with_phrase(self, phrase: tuple[str, ...], scores: Weights, request: Request) -> Integers:
        """Find the allowed rows that hold a phrase."""
        terms = {term for word in phrase if (term := ENGLISH.term(word)) is not None}
        rows = np.flatnonzero(request.allowed)
        for term in sorted(terms, key=self.index.documents):
            rows = np.intersect1d(rows, self.index.rows_with(term), assume_unique=True)
        if len(rows) > PHRASE_ROWS:
            rows = rows[np.lexsort((self.precedence[rows], -scores[rows]))[:PHRASE_ROWS]]
        if not len(rows):
            return rows
        wanted = [_stem(word) for word in phrase]
        texts = self.catalog.part(rows.tolist()).texts()
        holds = [_follows([_stem(word.lower()) for word in words(text)], wanted) for text in texts]
        return rows[np.array(holds, dtype=np.bool_)]

    def warnings(self, request: Request) -> tuple[str, ...]:
        """Say which words were read as others, and when no item holds any of them."""
        if not request.text:
            return ()
        asked = self._asked(request)
        unknown = not asked.known and any(ENGLISH.term(word.lower()) for word in words(request.text))
        return (*asked.warnings, *(("no item holds a word of this query",) if unknown else ()))

    def matched(self, request: Request, rows: Integers) -> list[list[str]] | None:
        """Give the words of each item's text that the query asks for, as they stand there."""
        if not request.text:
            return None
        terms = {term for word in self._asked(request).known for term in word.terms}
        return [
            list(dict.fromkeys(word for word in words(text) if ENGLISH.term(word.lower()) in terms))
            for text in self.catalog.part(rows.tolist()).texts()
        ]

    def explanations(self, request: Request, rows: Integers) -> list[dict[str, Json]] | None:
        """Give the words of each item's text that the query asks for, and which of the query's stood for others."""
        told = self.matched(request, rows)
        synonyms = {one["words"]: one["synonyms"] for one in self.reading(request)}
        own: dict[str, Json] = {"synonyms": synonyms} if synonyms else {}
        return None if told is None else [{"matched": each, **own} for each in told]

    def reading(self, request: Request) -> tuple[JsonObject, ...]:
        """Say which words have synonyms that some item holds."""
        choices = self._asked(request, help=False).choices
        return tuple({"words": one.typed, "synonyms": [text for text, _ in one.synonyms]} for one in choices)

    def fits(self, request: Request, best: float) -> bool:
        """Tell whether some item holds a word of the query as it was typed; guessed words prove nothing."""
        return best > 0.0 and bool(self._asked(request, help=False).known)

    def grow(self, catalog: Catalog, change: Change) -> BM25:
        """Index new texts; removed ones no longer move document counts and the mean length."""
        new = [text for added in change.added for text in self.recipe.texts(added.items)]
        pair_index = self.pair_index
        if pair_index is not None:
            pair_index = pair_index.grown(
                [text for added in change.added for text in _pairs(added.items)], catalog.live
            )
        return self._with(catalog, self.index.grown(new, catalog.live), pair_index)

    def _with(self, catalog: Catalog, index: WordIndex, pair_index: WordIndex | None) -> BM25:
        made = BM25.__new__(BM25)
        made._set(catalog, self.recipe, index, pair_index, self.seed)
        return made

    @property
    def pending(self) -> int:
        """Count the parts that `compact` would put into one."""
        return len(self.index.segments) - 1

    def compact(self) -> BM25:
        """Put all parts of the index into one, without removed items."""
        pair_index = None if self.pair_index is None else self.pair_index.compacted()
        return self._with(self.catalog, self.index.compacted(), pair_index)

    def warm_up(self) -> None:
        """Compile the loop over a word's rows."""
        self.search("a word", k=1)

    def describe(self) -> dict[str, Json]:
        """Tell the settings and the size of the index."""
        return {"k1": self.recipe.k1, "b": self.recipe.b, "bytes": self.index.nbytes}

    def save(self, folder: Path) -> dict[str, Json]:
        """Write the index."""
        self.index.save(folder)
        if self.pair_index is not None:
            (folder / "pairs").mkdir()
            self.pair_index.save(folder / "pairs")
        return {"recipe": self.recipe.to_dict(), "seed": self.seed}

    @classmethod
    def load(cls, folder: Path, details: JsonObject, catalog: Catalog, encoder: Encoder | None = None) -> Self:
        """Read what `save` wrote.

        Raises:
            DamagedError: A file is missing or cut, or of another catalogue.
        """
        recipe = BM25Recipe.from_dict(details["recipe"])
        made = cls.__new__(cls)
        index = WordIndex.load(folder, ENGLISH, catalog.live)
        pair_index = WordIndex.load(folder / "pairs", PLAIN, catalog.live) if recipe.pairs > 0.0 else None
        made._set(catalog, recipe, index, pair_index, int(details["seed"]))
        return made


@dataclass(frozen=True)
class BM25Recipe(Recipe):
    """Say how words are weighted and how a history is read.

    Args:
        k1: How soon repeating a word stops helping. 1.5 is bm25s's; Lucene takes 1.2, papers 0.9 to 2.
        b: How much long texts are held back. 0.75 as everywhere.
        decay: What each step back in a history costs: 0.7 was the best of 0.3, 0.5, 0.7, 0.9 on validation users of
            one shop, and close to 0.5 there.
        history: How many of the last items count; what is further back weighs less than 0.1 %.
        title_weight: How often the title counts beside the other text; 1 as plain BM25.
        pairs: Weight of words that follow each other in the query and in a text, scored by BM25 too; 0 is plain BM25.
        synonyms: What words of a query stand for, as lines that `genrail.catalog.read_synonyms` reads. A query is read
            by them, no index depends on them.

    Raises:
        SettingsError: A setting outside its range.
        CatalogError: A line of synonyms that is no rule.
    """

    k1: float = 1.5
    b: float = 0.75
    decay: float = 0.7
    history: int = 20
    title_weight: int = 1
    pairs: float = 0.0
    synonyms: tuple[str, ...] = ()

    kind: ClassVar[str] = "bm25"
    finder: ClassVar[type[Finder]] = BM25

    def __post_init__(self) -> None:
        if self.k1 < 0 or not 0 <= self.b <= 1:
            raise SettingsError(f"k1 is {self.k1} and b {self.b}; give k1 >= 0 and 0 <= b <= 1")
        if self.title_weight < 1 or not 0.0 <= self.pairs < float("inf"):
            raise SettingsError(
                f"title_weight is {self.title_weight} and pairs {self.pairs}; give 1 or more, and 0 or more"
            )
        check_content(self.decay, self.history)
        object.__setattr__(self, "synonyms", tuple(map(str, read_synonyms(self.synonyms))))

    @cached_property
    def rules(self) -> Synonyms:
        """Give the synonyms as terms."""
        return Synonyms(read_synonyms(self.synonyms), ENGLISH)

    def texts(self, catalog: Catalog) -> list[str]:
        """Give the text of each row, its title as often as it counts."""
        texts = catalog.texts()
        if self.title_weight == 1:
            return texts
        more = self.title_weight - 1
        return [f"{f'{title} ' * more}{text}" for title, text in zip(catalog.titles, texts, strict=True)]

    def choices(self) -> list[Recipe]:
        """Try other weights of earlier items in a history."""
        return [replace(self, decay=decay) for decay in dict.fromkeys((self.decay, *DECAYS))]

    def build(self, data: Data, progress: Progress) -> BM25:
        """Index the texts of a catalogue."""
        made = BM25(data.catalog, seed=data.seed, **asdict(self))
        progress("words", 1, 1)
        return made


def _norms(index: WordIndex, k1: float, b: float) -> Weights:
    norms: Weights = np.asarray(k1 * (1.0 - b + b * index.lengths / index.mean_length), np.float64)
    return norms


def _pairs(catalog: Catalog) -> list[str]:
    return [" ".join(pairs(text, ENGLISH)) for text in catalog.texts()]


def _stem(word: str) -> str:
    """Give the term of a word, or a stop word itself: in a phrase it counts."""
    return ENGLISH.term(word) or word


def _follows(text: Sequence[str], phrase: Sequence[str]) -> bool:
    """Tell whether a phrase stands in a text."""
    size = len(phrase)
    return any(list(text[place : place + size]) == list(phrase) for place in range(len(text) - size + 1))
