"""The language-model lane: a Hugging Face checkpoint reads a prompt and writes titles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrail.catalog import Catalog
from genrail.errors import FingerprintError
from genrail.identifiers import IdentifierTable
from genrail.retrieval.requests import Request

if TYPE_CHECKING:
    from genrail.models.causal import CausalModel
    from genrail.models.seq2seq import Seq2SeqModel
    from genrail.retrieval.lanes import Progress

__all__ = ["LanguageModelLane"]

COPY = "checkpoint"  # folder of the copied weights inside a saved engine


@dataclass(frozen=True)
class LanguageModelLane:
    """Let a causal or seq2seq checkpoint write titles, untrained.

    Args:
        model: The checkpoint with its tokenizer.
        source: Name on the hub, to be loaded from there again; None for a local or in-memory one, which is copied into
            the saved folder.
    """

    model: CausalModel | Seq2SeqModel
    source: str | None = None
    prompts: Any = field(init=False, repr=False)
    titles: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        from genrail.identifiers.titles import Titles
        from genrail.models.causal import CausalModel
        from genrail.models.prompts import Prompts

        tokenizer = self.model.tokenizer
        object.__setattr__(self, "prompts", Prompts(tokenizer, seq2seq=self.model.family == "seq2seq"))
        object.__setattr__(self, "titles", Titles(tokenizer))
        if isinstance(self.model, CausalModel):  # what every prompt begins with is read once, not with every request
            self.model.remember_prefix(self.prompts.shared_prefix())

    @property
    def name(self) -> str:
        """Name the checkpoint."""
        return self.source or self.model.name

    @property
    def encoder(self) -> None:
        """Have no text encoder."""
        return None

    def contexts(self, requests: Sequence[Request], catalog: Catalog) -> list[Any]:
        """Render one prompt per request; words and titles are encoded as data."""
        titles = catalog.titles
        return [
            self.prompts.render(request.text, [titles[row] for row in request.history.tolist()]) for request in requests
        ]

    def identify(self, catalog: Catalog) -> IdentifierTable:
        """Give every row its title as identifier."""
        table: IdentifierTable = self.titles.assign(catalog.titles, catalog.item_ids)
        return table

    def read(self, catalog: Catalog, rows: range, progress: Progress) -> dict[str, Any]:
        """Need nothing but the titles."""
        return {}

    def extend(
        self, catalog: Catalog, rows: range, table: IdentifierTable, reading: dict[str, Any]
    ) -> tuple[LanguageModelLane, IdentifierTable]:
        """Tokenise the new titles."""
        added: IdentifierTable = self.titles.assign(
            catalog.titles[rows.start : rows.stop], catalog.item_ids[rows.start : rows.stop]
        )
        return self, table.extend(added)

    def spell(self, prefix: Sequence[int], catalog: Catalog, table: IdentifierTable) -> str:
        """Decode the tokens."""
        text: str = self.titles.decode(prefix)
        return text

    def details(self) -> dict[str, Any]:
        """Name the checkpoint and fingerprint weights and tokenizer."""
        return {
            "lane": "language model",
            "checkpoint": self.source,
            "model": self.model.fingerprint,
            "tokenizer_class": type(self.model.tokenizer).__name__,
        }

    def save(self, folder: Path) -> None:
        """Copy weights and tokenizer, unless they can be loaded by name again."""
        if self.source is None:
            self.model.model.save_pretrained(folder / COPY)
            self.model.tokenizer.save_pretrained(folder / COPY)

    @classmethod
    def load(cls, folder: Path, details: dict[str, Any]) -> LanguageModelLane:
        """Read what `save` wrote.

        Raises:
            FingerprintError: Weights or tokenizer are not those the engine was built with.
        """
        from genrail.models.checkpoints import load_checkpoint

        source = details["checkpoint"]
        model = load_checkpoint(source or folder / COPY, tokenizer_class=details["tokenizer_class"])
        if model.fingerprint != details["model"]:
            raise FingerprintError(
                f"the language model found as {source or folder / COPY} is not the one the engine was built with "
                "(weights, configuration or tokenizer differ); build the engine again with this one"
            )
        return cls(model, source)

    def describe(self) -> dict[str, Any]:
        """Tell which checkpoint this is."""
        return {"identifiers": "titles", **{f"model {key}": value for key, value in self.model.describe().items()}}
