"""A language model that writes Semantic IDs as new tokens, trained on the catalogue's text and on histories."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from genrail.catalog import Catalog
from genrail.decoding import BeamSettings
from genrail.errors import CatalogError, DamagedError, FingerprintError, SettingsError, StorageError
from genrail.finders.generative import Generative, Spelling, live_index
from genrail.finders.readings import pack, unpack
from genrail.finding import Change, Data, Finder, Json, Progress, Recipe, Request
from genrail.identifiers import IdentifierTable, SemanticIds
from genrail.identifiers.schemes import SCHEME, described, identified, reads_items, spelled
from genrail.models.causal import CausalModel
from genrail.models.checkpoints import load_checkpoint
from genrail.models.code_tokens import CodeModel, add_code_tokens
from genrail.models.encoders import LazyEncoder
from genrail.models.prompts import Prompts, PromptTemplate
from genrail.rng import generator
from genrail.training.code_tokens import CodeTrainingSettings, train_codes
from genrail.training.loop import LoopSettings
from genrail.training.pairs import pseudo_queries

if TYPE_CHECKING:
    from genrail.models.text_encoder import Encoder
    from genrail.training.loop import LoopReport

__all__ = ["CodeWriter", "CodesRecipe", "CodesSpelling"]

MODEL = "model"  # folder of the trained weights inside a saved finder
Lessons = tuple[list[list[int]], npt.NDArray[np.int64]]
"""Prompts, and the row that is right after each."""


@dataclass(frozen=True, eq=False)
class CodesSpelling(Spelling):
    """Read a prompt of words and titles, and write Semantic IDs.

    Args:
        model: The language model with its code tokens.
        identifiers: The frozen codebooks.
        encoder: Of the texts of new items; None where the codebooks need no vectors.
        name: For tables.
        template: The words around a request.
        max_history: Titles of a longer history are left out from its old end.
        held_out: Was each user's last event kept out of training.
    """

    model: CodeModel
    identifiers: SemanticIds
    encoder: LazyEncoder | None
    name: str
    template: PromptTemplate | None = None
    max_history: int = 20
    held_out: bool = True
    prompts: Prompts = field(init=False, repr=False)

    def __post_init__(self) -> None:
        prompts = Prompts(self.model.tokenizer, self.template, max_history=self.max_history)
        object.__setattr__(self, "prompts", prompts)
        self.model.inner.remember_prefix(prompts.shared_prefix())  # read once, not with every request

    def contexts(self, requests: Sequence[Request], catalog: Catalog) -> list[Any]:
        """Render one prompt per request; words and titles are encoded as data."""
        titles = catalog.titles
        return [self.prompts.render(one.text, [titles[row] for row in one.history.tolist()]) for one in requests]

    def empty_context(self) -> Any:
        """Render the prompt of a request that says nothing."""
        return self.prompts.empty()

    def warnings(self, request: Request) -> tuple[str, ...]:
        """Tell when only the end of a history is read."""
        most, given = self.max_history, request.history.size
        return (f"the model reads the last {most} of the {given} known history items",) if given > most else ()

    def read(self, catalog: Catalog, rows: range, progress: Progress) -> Json:
        """Encode the new texts, where codes are made from vectors."""
        if self.encoder is None:
            return None
        texts = catalog.texts()[rows.start : rows.stop]
        return pack(self.encoder.encode(texts, lambda done, total: progress("text vectors", done, total)))

    def extend(self, catalog: Catalog, table: Any, change: Change) -> tuple[CodesSpelling, IdentifierTable]:
        """Give the new rows codes from the frozen codebooks; the model knows all codes already."""
        width = 0 if self.encoder is None else self.encoder.dimensions
        new = described(self.identifiers, catalog.part(change.rows), lambda: unpack(change, width))
        return self, self.identifiers.extend(table, new, vocab_size=self.model.vocab_size)

    def spell(self, prefix: Sequence[int], catalog: Catalog, table: IdentifierTable) -> str:
        """Write the words of codes that are words; else name an item below the prefix."""
        return spelled(self.identifiers, prefix, catalog, table)

    def save(self, folder: Path) -> dict[str, Json]:
        """Write codebooks, weights and tokenizer; the text encoder is named, not copied."""
        self.identifiers.save(folder / "identifiers")
        self.model.save(folder / MODEL)
        return {
            "name": self.name,
            "model": self.model.fingerprint,
            "codebooks": self.identifiers.fingerprint,
            "encoder": None if self.encoder is None else self.encoder.details,
            "template": None if self.template is None else asdict(self.template),
            "max_history": self.max_history,
            "held_out": self.held_out,
        }

    @classmethod
    def load(cls, folder: Path, details: Mapping[str, Any], catalog: Catalog, encoder: Encoder | None) -> Self:
        """Read what `save` wrote.

        Raises:
            DamagedError: A file is missing or cut.
            FingerprintError: Weights, tokenizer or codebooks are not those the engine was built with.
        """
        identifiers = SemanticIds.load(folder / "identifiers")
        try:
            model = CodeModel.load(folder / MODEL)
        except StorageError:
            raise
        except Exception as error:  # whatever the libraries raise over a damaged checkpoint
            raise DamagedError(f"{folder / MODEL} cannot be read ({error}); restore the folder") from None
        model.name = details["name"]
        if (model.fingerprint, identifiers.fingerprint) != (details["model"], details["codebooks"]):
            raise FingerprintError(
                f"the language model or the codebooks in {folder} are not those the engine was built with; "
                "restore the folder or build the engine again"
            )
        named = None if details["encoder"] is None else LazyEncoder.named(details["encoder"], encoder)
        template = None if details["template"] is None else PromptTemplate(**details["template"])
        most, held_out = int(details["max_history"]), bool(details["held_out"])
        return cls(model, identifiers, named, details["name"], template, most, held_out)

    def describe(self) -> dict[str, Any]:
        """Tell identifiers and model."""
        shape = f"{self.identifiers.levels} x {self.identifiers.codes} codes, one to tell duplicates apart"
        return {"identifiers": shape, **{f"model {key}": value for key, value in self.model.describe().items()}}


class CodeWriter(Generative):
    """Let a language model write Semantic IDs."""

    spelling: CodesSpelling
    table: IdentifierTable

    @classmethod
    def load(cls, folder: Path, details: Mapping[str, Any], catalog: Catalog, encoder: Encoder | None = None) -> Self:
        """Read what `save` wrote."""
        recipe = CodesRecipe.from_dict(details["recipe"])
        return cls.opened(folder, details, catalog, encoder, CodesSpelling, recipe)


@dataclass(frozen=True)
class CodesRecipe(Recipe):
    """Give a causal language model a token for every code, and teach it which identifier follows which request.

    It learns from queries made up of the catalogue's own text, from judged queries, and from histories.

    Args:
        model: Name or folder of a causal checkpoint, or a loaded one, which stays as it is.
        levels: Codes of an identifier, without the one that tells duplicates apart; 3 as TIGER (Rajput et al. 2023).
        codes: Size of a codebook; None for 256, or a quarter of the items where there are fewer than 1,024.
        identifiers: How items become codes, as for the native finder.
        pseudo_queries: Made-up queries for each item.
        histories: At most so many next items to learn from, drawn by seed: each costs a prompt of up to `max_history`
            titles. None for all.
        training: How it learns; `epochs` and the learning rate are in its `loop`.
        template: The words around a request; None for those of `PromptTemplate`.
        max_history: Titles of a longer history are left out from its old end.
        beam: How to search.

    Cost: the model reads `pseudo_queries` short prompts for each item and `histories` longer ones, `epochs` times, and
    learns from them: minutes for 1,000 items on a CPU with 100 M weights; beyond that it wants a GPU.
    Source: LC-Rec (Zheng et al. 2024) and MiniOneRec (Kong et al. 2025).
    """

    kind: ClassVar[str] = "codes"
    finder: ClassVar[type[Finder]] = CodeWriter
    learns: ClassVar[bool] = True
    learns_queries: ClassVar[bool] = True
    takes_language_model: ClassVar[bool] = True

    model: Any = None
    levels: int = 3
    codes: int | None = None
    identifiers: str = SCHEME
    pseudo_queries: int = 4
    histories: int | None = 20_000
    training: CodeTrainingSettings = field(default_factory=CodeTrainingSettings)
    template: PromptTemplate | None = None
    max_history: int = 20
    beam: BeamSettings = field(default_factory=BeamSettings)

    def __post_init__(self) -> None:
        if isinstance(self.training, Mapping):  # from a manifest
            values: dict[str, Any] = dict(self.training)
            loop = LoopSettings(**values["loop"])
            object.__setattr__(self, "training", CodeTrainingSettings(**{**values, "loop": loop}))
        if isinstance(self.template, Mapping):
            object.__setattr__(self, "template", PromptTemplate(**self.template))
        if isinstance(self.beam, Mapping):
            object.__setattr__(self, "beam", BeamSettings(**self.beam))
        if self.histories is not None and self.histories < 0:
            raise SettingsError(f"histories is {self.histories}; give 0 or more")

    def to_dict(self) -> dict[str, Json]:
        """Turn the settings into plain values; a model that has no name is saved by itself."""
        plain = asdict(replace(self, model=None))
        return {**plain, "model": str(self.model) if isinstance(self.model, str | Path) else None}

    def build(self, data: Data, progress: Progress) -> CodeWriter:
        """Turn items into codes, give the model their tokens, and teach it."""
        catalog = data.catalog
        if not catalog.live.any():
            raise CatalogError("the catalogue has no items; read one with at least one row")
        loaded = self._loaded()
        ids, table = identified(
            self.identifiers, catalog, lambda: data.text_vectors(progress), self.levels, self.codes, data.seed
        )
        size = max(table.vocab_size, ids.codes)
        full, tokenizer = loaded.model, loaded.tokenizer
        tokens = add_code_tokens(full, tokenizer, table.matrix(), catalog.titles, size, data.seed)
        model = CodeModel(full, tokenizer, tokens, loaded.name)
        report = self._taught(model, table, data, progress)
        encoder = None if reads_items(ids) else data.encoder
        name = f"codes by {loaded.name}"
        spelling = CodesSpelling(model, ids, encoder, name, self.template, self.max_history, data.hold_out)
        return CodeWriter(catalog, spelling, table, live_index(catalog, table, progress), self, self.beam, report)

    def train(self, finder: Finder, data: Data, progress: Progress) -> CodeWriter:
        """Train a copy of the model further."""
        assert isinstance(finder, CodeWriter)
        before = finder.spelling
        model = CodeModel(copy.deepcopy(before.model.full), before.model.tokenizer, before.model.tokens, before.name)
        report = self._taught(model, finder.table, data, progress)
        spelling = replace(before, model=model, held_out=before.held_out and data.hold_out)
        return finder.replaced(spelling=spelling, report=report)

    def _loaded(self) -> CausalModel:
        """Load the model, or copy the one given: it gets new tokens."""
        given = self.model
        if isinstance(given, str | Path):
            given = load_checkpoint(given)
        elif isinstance(given, CausalModel):
            given = CausalModel(copy.deepcopy(given.model), copy.deepcopy(given.tokenizer), given.name)
        if not isinstance(given, CausalModel):
            what = "nothing was given" if given is None else f"{type(given).__name__} is none"
            raise SettingsError(
                f"codes are written by a causal language model, and {what}; give model, a name or a folder"
            )
        return given

    def _taught(self, model: CodeModel, table: IdentifierTable, data: Data, progress: Progress) -> LoopReport:
        """Teach the model, in place."""
        prompts = Prompts(model.tokenizer, self.template, max_history=self.max_history)
        texts, rows = self._lessons(prompts, data)
        room = getattr(model.full.config, "max_position_embeddings", None)
        if room is not None:  # a prompt that the model cannot read
            kept = [place for place, text in enumerate(texts) if len(text) + model.tokens.levels <= room]
            texts, rows = [texts[place] for place in kept], rows[kept]
        if not texts:
            raise CatalogError("no item has a title or text, so there is nothing to learn its codes from")
        return train_codes(
            model,
            texts,
            table.matrix()[rows].astype(np.int64),
            self.training,
            seed=data.seed,
            progress=lambda now: progress("training codes", now.epoch, now.epochs),
        )

    def _lessons(self, prompts: Prompts, data: Data) -> Lessons:
        """Render what there is to learn from: made-up queries, judged ones, and histories."""
        catalog = data.catalog
        asked, rows = pseudo_queries(catalog.titles, catalog.texts(), self.pseudo_queries, data.seed)
        right = rows.tolist()
        for query_id, grades in data.judged.items():
            found = catalog.rows([item_id for item_id, grade in grades.items() if grade > 0]).tolist()
            asked += [(data.queries or {})[query_id]] * len(found)
            right += found
        texts = [prompts.render(words) for words in asked if words.strip()]
        right = [row for row, words in zip(right, asked, strict=True) if words.strip()]
        for past, row in self._histories(data):
            texts.append(prompts.render(None, [catalog.titles[one] for one in past]))
            right.append(row)
        known = np.array(right, dtype=np.int64)
        kept = np.flatnonzero(catalog.live[known]) if len(known) else known
        return [texts[place] for place in kept.tolist()], known[kept]

    def _histories(self, data: Data) -> list[tuple[list[int], int]]:
        """List the ends of histories with the item that came next."""
        if data.sequences is None:
            return []
        rows, offsets = np.asarray(data.sequences.rows), np.asarray(data.sequences.offsets)
        begin = np.repeat(offsets[:-1], np.diff(offsets))
        ends = np.flatnonzero(np.arange(len(rows)) > begin)
        chosen = generator(data.seed, "histories of codes").permutation(ends)[: self.histories]
        return [
            (rows[max(int(begin[end]), int(end) - self.max_history) : end].tolist(), int(rows[end]))
            for end in np.sort(chosen).tolist()
        ]
