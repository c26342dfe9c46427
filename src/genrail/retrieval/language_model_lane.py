"""The language-model lane: a Hugging Face checkpoint reads a prompt and writes titles, or other words for the items."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrail.catalog import Catalog
from genrail.catalog.values import written
from genrail.decoding.several import Combine
from genrail.errors import CatalogError, FingerprintError, SettingsError
from genrail.identifiers import IdentifierTable
from genrail.identifiers.several import SeveralIdentifiers
from genrail.models.identifier_writer import WriterSettings, write_identifiers
from genrail.models.prompts import Example, Prompts, PromptTemplate
from genrail.retrieval.requests import Request

if TYPE_CHECKING:
    from genrail.models.causal import CausalModel
    from genrail.models.seq2seq import Seq2SeqModel
    from genrail.retrieval.lanes import Added, Progress

__all__ = ["LanguageModelLane", "LanguageModelSettings", "catalog_facts"]

COPY = "checkpoint"  # folder of the copied weights inside a saved engine
MOST_VALUES = 12  # values named of each column of catalogue facts


@dataclass(frozen=True)
class LanguageModelSettings:
    """Say how a language model is asked, and by which words it may answer.

    Args:
        template: The words around a request.
        examples: Answered requests, shown before each one (few-shot).
        max_history: Titles of a longer history are left out from its old end.
        chat: Use the tokenizer's chat template; default: when it has one.
        catalog_facts: Columns whose most frequent values are named in every prompt: what the shop has.
        item_facts: Columns whose values stand behind each title of a history.
        aliases: A column of further identifiers of each item, separated by ``|``, besides its title.
        writer: Let the model itself write further identifiers of each item, see `WriterSettings`; None for titles.
        combine: How an item with several identifiers is scored: by its `best` one, or by their `sum`.
    """

    template: PromptTemplate | None = None
    examples: tuple[Example, ...] = ()
    max_history: int = 20
    chat: bool | None = None
    catalog_facts: tuple[str, ...] = ()
    item_facts: tuple[str, ...] = ()
    aliases: str | None = None
    writer: WriterSettings | None = None
    combine: Combine = "best"

    def __post_init__(self) -> None:
        if self.combine not in ("best", "sum"):
            raise SettingsError(f"combine is {self.combine!r}; give 'best' or 'sum'")

    @property
    def several(self) -> bool:
        """Tell whether items may have more than one identifier."""
        return self.aliases is not None or self.writer is not None

    def to_dict(self) -> dict[str, Any]:
        """Turn the settings into plain values."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))  # tuples become lists
        return plain

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> LanguageModelSettings:
        """Read what `to_dict` gave, perhaps by way of JSON."""
        known = {one.name for one in fields(cls)}
        plain: dict[str, Any] = {name: value for name, value in values.items() if name in known}
        plain["template"] = None if plain["template"] is None else PromptTemplate(**plain["template"])
        plain["examples"] = tuple(Example(**one) for one in plain["examples"])
        plain["writer"] = None if plain["writer"] is None else WriterSettings(**plain["writer"])
        for name, value in plain.items():
            plain[name] = tuple(value) if isinstance(value, list) else value
        return cls(**plain)


def catalog_facts(catalog: Catalog, columns: Sequence[str]) -> str:
    """Write what a catalogue has: the most frequent values of some columns, one line each.

    Raises:
        CatalogError: No such column.

    >>> shop = Catalog.from_items([{"id": str(n), "title": "boot", "brand": "Nike" if n else "Ecco"} for n in range(3)])
    >>> catalog_facts(shop, ["brand"])
    'brand: Nike, Ecco'
    """
    lines = []
    for name in columns:
        _check_column(catalog, name)
        values = [value for value in catalog.frame.get_column(name).to_list() if value is not None]
        parts = [part.strip() for value in values for part in written(value).split("|")]
        best = [value for value, _ in Counter(part for part in parts if part).most_common(MOST_VALUES)]
        lines.append(f"{name}: {', '.join(best)}")
    return "\n".join(lines)


def _check_column(catalog: Catalog, name: str) -> None:
    if name not in catalog.frame.columns:
        raise CatalogError(f'no column is named "{name}"; the catalogue has {", ".join(catalog.frame.columns)}')


@dataclass(frozen=True)
class LanguageModelLane:
    """Let a causal or seq2seq checkpoint write titles, untrained.

    Args:
        model: The checkpoint with its tokenizer.
        source: Name on the hub, to be loaded from there again; None for a local or in-memory one, which is copied into
            the saved folder.
        settings: How it is asked.
        facts: Of the catalogue, as they stand in every prompt.
    """

    model: CausalModel | Seq2SeqModel
    source: str | None = None
    settings: LanguageModelSettings = field(default_factory=LanguageModelSettings)
    facts: str = ""
    prompts: Any = field(init=False, repr=False)
    titles: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        from genrail.identifiers.titles import Titles
        from genrail.models.causal import CausalModel

        tokenizer, settings = self.model.tokenizer, self.settings
        prompts = Prompts(
            tokenizer,
            settings.template,
            settings.examples,
            settings.max_history,
            settings.chat,
            seq2seq=self._seq2seq,
            facts=self.facts,
        )
        object.__setattr__(self, "prompts", prompts)
        object.__setattr__(self, "titles", Titles(tokenizer))
        if isinstance(self.model, CausalModel):  # what every prompt begins with is read once, not with every request
            self.model.remember_prefix(self.prompts.shared_prefix())

    @property
    def _seq2seq(self) -> bool:
        return self.model.family == "seq2seq"

    @property
    def name(self) -> str:
        """Name the checkpoint."""
        return self.source or self.model.name

    @property
    def encoder(self) -> None:
        """Have no text encoder."""
        return None

    @property
    def combine(self) -> Combine:
        """Say how several identifiers of an item make one score."""
        return self.settings.combine

    def contexts(self, requests: Sequence[Request], catalog: Catalog) -> list[Any]:
        """Render one prompt per request; words and titles are encoded as data."""
        return [
            self.prompts.render(request.text, [self._line(catalog, row) for row in request.history.tolist()])
            for request in requests
        ]

    def _line(self, catalog: Catalog, row: int) -> str:
        """Write an item of a history: its title, and what else is told of it."""
        if not self.settings.item_facts:
            return catalog.titles[row]
        values = catalog.attributes(row)
        facts = [f"{name} {values[name]}" for name in self.settings.item_facts if values.get(name) not in (None, "")]
        return f"{catalog.titles[row]} ({', '.join(facts)})" if facts else catalog.titles[row]

    def identify(self, catalog: Catalog, progress: Progress) -> IdentifierTable | SeveralIdentifiers:
        """Give every row its title as identifier, and the others that the settings ask for."""
        for name in (*self.settings.item_facts, *([self.settings.aliases] if self.settings.aliases else [])):
            _check_column(catalog, name)
        rows = range(len(catalog))
        return self._spell(catalog, rows, self.read(catalog, rows, progress))

    def read(self, catalog: Catalog, rows: range, progress: Progress) -> dict[str, Any]:
        """Write identifiers of new rows, if the settings ask for that; titles need nothing."""
        writer = self.settings.writer
        if writer is None:
            return {}
        texts = catalog.texts()
        written = []
        for number, row in enumerate(rows):
            progress("writing identifiers", number, len(rows))
            model, tokenizer = self.model, self.model.tokenizer
            written.append(write_identifiers(model, tokenizer, texts[row], writer, seq2seq=self._seq2seq))
        progress("writing identifiers", len(rows), len(rows))
        return {"identifiers": written}

    def extend(
        self, table: Any, added: Sequence[Added]
    ) -> tuple[LanguageModelLane, IdentifierTable | SeveralIdentifiers]:
        """Tokenise the new titles and other identifiers."""
        spelled: list[Any] = [self._spell(one.items, range(len(one.items)), one.reading) for one in added]
        for one in spelled:
            table = table.extend(one)
        return self, table

    def _spell(self, catalog: Catalog, rows: range, reading: dict[str, Any]) -> IdentifierTable | SeveralIdentifiers:
        titles, item_ids = catalog.titles[rows.start : rows.stop], catalog.item_ids[rows.start : rows.stop]
        if not self.settings.several:
            table: IdentifierTable = self.titles.assign(titles, item_ids)
            return table
        written = reading.get("identifiers", [[]] * len(rows))
        lists = [[title, *self._aliases(catalog, row)] for title, row in zip(titles, rows, strict=True)]
        lists = [[*known, *others] for known, others in zip(lists, written, strict=True)]
        owners = [item_id for item_id, texts in zip(item_ids, lists, strict=True) for _ in texts]
        flat = self.titles.assign([text for texts in lists for text in texts], owners)
        places = iter(range(len(flat)))
        sequences = [[flat.sequence(next(places)).tolist() for _ in texts] for texts in lists]
        return SeveralIdentifiers.from_lists(sequences, flat.vocab_size, flat.end_token, flat.source)

    def _aliases(self, catalog: Catalog, row: int) -> list[str]:
        if self.settings.aliases is None:
            return []
        value = catalog.frame.get_column(self.settings.aliases)[row]
        return [part.strip() for part in written("" if value is None else value).split("|") if part.strip()]

    def spell(self, prefix: Sequence[int], catalog: Catalog, table: IdentifierTable | SeveralIdentifiers) -> str:
        """Decode the tokens."""
        text: str = self.titles.decode(prefix)
        return text

    def details(self) -> dict[str, Any]:
        """Name the checkpoint, fingerprint weights and tokenizer, and keep the settings."""
        return {
            "lane": "language model",
            "checkpoint": self.source,
            "model": self.model.fingerprint,
            "tokenizer_class": type(self.model.tokenizer).__name__,
            "settings": self.settings.to_dict(),
            "facts": self.facts,
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
        settings = LanguageModelSettings.from_dict(details["settings"]) if "settings" in details else None
        return cls(model, source, settings or LanguageModelSettings(), details.get("facts", ""))

    def describe(self) -> dict[str, Any]:
        """Tell which checkpoint this is."""
        kind = f"titles and others, scored by the {self.combine}" if self.settings.several else "titles"
        return {"identifiers": kind, **{f"model {key}": value for key, value in self.model.describe().items()}}
