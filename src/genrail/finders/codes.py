"""A language model that writes Semantic IDs as new tokens, trained on the catalogue's text and on histories."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from genrail.catalog import Catalog
from genrail.constraints.compressed import compressed
from genrail.decoding import BeamSettings
from genrail.errors import CatalogError, DamagedError, FingerprintError, SettingsError, StorageError
from genrail.finders.fine_tuning import fine_tuned, shown
from genrail.finders.generative import Generative, Spelling, live_index
from genrail.finders.lessons import Distillation
from genrail.finders.readings import pack, unpack
from genrail.finding import Change, Data, Finder, Json, Progress, Recipe, Request
from genrail.identifiers import IdentifierTable, SemanticIds
from genrail.identifiers.schemes import SCHEME, described, identified, reads_items, spelled
from genrail.models.causal import CausalModel
from genrail.models.checkpoints import load_checkpoint
from genrail.models.code_tokens import CodeModel, add_code_tokens
from genrail.models.encoders import LazyEncoder
from genrail.models.model_card import ModelCard
from genrail.models.plain_text import plain_tokens
from genrail.models.prompts import Prompts, PromptTemplate
from genrail.training.fine_tuning_settings import FineTuning
from genrail.training.loop_settings import LoopSettings

if TYPE_CHECKING:
    from genrail.constraints.compressed import CompressedTrie
    from genrail.models.text_encoder import Encoder
    from genrail.training.pairs import Pair

__all__ = ["CodeWriter", "CodesRecipe", "CodesSpelling"]

_EARLIER = ("training", "pseudo_queries", "histories")  # of folders before there was `tuning`
MODEL = "model"  # folder of the trained weights inside a saved finder


def _tuning() -> FineTuning:
    # Rate, epochs and warm-up of MiniOneRec (Kong et al. 2025), where an epoch is a pass over everything.
    loop = LoopSettings(epochs=10, learning_rate=3e-4, warm_up=20, weight_decay=0.0, averaging=0.0)
    return FineTuning(learns="all", batch=32, epoch=None, loop=loop)


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
        card: What it was taught here; None where there was nothing to decide.
    """

    model: CodeModel
    identifiers: SemanticIds
    encoder: LazyEncoder | None
    name: str
    template: PromptTemplate | None = None
    max_history: int = 20
    held_out: bool = True
    card: ModelCard | None = None
    prompts: Prompts = field(init=False, repr=False)

    def __post_init__(self) -> None:
        prompts = Prompts(self.model.tokenizer, self.template, max_history=self.max_history)
        object.__setattr__(self, "prompts", prompts)
        self.model.inner.remember_prefix(prompts.shared_prefix())  # read once, not with every request

    @property
    def language_model(self) -> CausalModel:
        """Give the model with its whole vocabulary."""
        return CausalModel(self.model.full, self.model.tokenizer, self.name)

    def with_language_model(self, model: CausalModel) -> CodesSpelling:
        """Ask another model in the same words; it has the same code tokens."""
        return replace(self, model=CodeModel(model.model, self.model.tokenizer, self.model.tokens, self.name))

    def changed(self) -> None:
        """Take over weights that have changed."""
        self.model.changed()
        self.model.inner.remember_prefix(self.prompts.shared_prefix())

    def in_words(self, trie: CompressedTrie) -> CompressedTrie:
        """Write codes as tokens of the language model's vocabulary."""
        tokens = self.model.tokens
        level = np.arange(len(trie.tokens)) - np.repeat(trie.offsets[:-1], np.diff(trie.offsets))
        edge_level = trie.depth[trie.edge_parent]
        return replace(
            trie,
            tokens=tokens.first + level * tokens.codes + trie.tokens,
            edge_token=tokens.first + edge_level * tokens.codes + trie.edge_token,
        )

    def aligned(self, pair: Pair, catalog: Catalog, table: IdentifierTable) -> tuple[list[int], list[int]]:
        """Render a task that joins codes and words: the prompt, and the tokens of the title where that is asked for."""
        tokens, tokenizer = self.model.tokens, self.model.tokenizer
        level = np.arange(tokens.levels) * tokens.codes + tokens.first

        def coded(row: int) -> list[int]:
            own: list[int] = (level + table.sequence(row)).tolist()
            return own

        words = coded(pair.rows[0]) if not pair.text and not pair.history else pair.text
        past = [coded(row) if pair.coded else catalog.titles[row] for row in pair.history]
        prompt = self.prompts.render(words, past, pair.named)
        if not pair.named:
            return prompt, []
        return prompt, [*plain_tokens(tokenizer, [catalog.titles[pair.rows[0]]])[0], tokenizer.eos_token_id]

    @property
    def longest_history(self) -> int:
        """Give how many items of a history are read."""
        return self.max_history

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
        if self.card is not None:
            self.card.write(folder / MODEL, adapter=False)
        return {
            "name": self.name,
            "model": self.model.fingerprint,
            "codebooks": self.identifiers.fingerprint,
            "encoder": None if self.encoder is None else self.encoder.details,
            "template": None if self.template is None else asdict(self.template),
            "max_history": self.max_history,
            "held_out": self.held_out,
            "card": None if self.card is None else self.card.to_dict(),
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
        card = ModelCard.from_dict(details.get("card"))
        return cls(model, identifiers, named, details["name"], template, most, held_out, card)

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
        tuning: How it learns, and from what: `pseudo_queries`, `next_items`, `epochs` and others.
        distillation: How it learns from a teacher, with ``recipe="distill"``.
        template: The words around a request; None for those of `PromptTemplate`.
        max_history: Titles of a longer history are left out from its old end.
        beam: How to search.

    Cost: the model reads four short prompts for each item and `next_items` longer ones, `epochs` times, and learns from
    them: minutes for 1,000 items on a CPU with 100 M weights; beyond that it wants a GPU.
    Source: LC-Rec (Zheng et al. 2024) and MiniOneRec (Kong et al. 2025).
    """

    kind: ClassVar[str] = "codes"
    finder: ClassVar[type[Finder]] = CodeWriter
    learns: ClassVar[bool] = True
    learns_queries: ClassVar[bool] = True
    takes_language_model: ClassVar[bool] = True
    takes_teacher: ClassVar[bool] = True

    model: Any = None
    levels: int = 3
    codes: int | None = None
    identifiers: str = SCHEME
    tuning: FineTuning = field(default_factory=_tuning)
    distillation: Distillation = field(default_factory=Distillation)
    template: PromptTemplate | None = None
    max_history: int = 20
    beam: BeamSettings = field(default_factory=BeamSettings)

    @property
    def asks_teacher(self) -> bool:
        """See `Recipe.asks_teacher`."""
        return self.tuning.asks

    def __post_init__(self) -> None:
        if isinstance(self.tuning, Mapping):  # from a manifest
            object.__setattr__(self, "tuning", FineTuning.from_dict(self.tuning))
        if isinstance(self.distillation, Mapping):
            object.__setattr__(self, "distillation", Distillation(**self.distillation))
        if isinstance(self.template, Mapping):
            object.__setattr__(self, "template", PromptTemplate(**self.template))
        if isinstance(self.beam, Mapping):
            object.__setattr__(self, "beam", BeamSettings(**self.beam))

    def to_dict(self) -> dict[str, Json]:
        """Turn the settings into plain values; a model that has no name is saved by itself."""
        plain = asdict(replace(self, model=None, tuning=self.tuning.kept()))
        return {**plain, "model": str(self.model) if isinstance(self.model, str | Path) else None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` gave, also of versions whose recipe said otherwise how it learns."""
        earlier = isinstance(values.get("training"), Mapping)
        return super().from_dict({name: value for name, value in values.items() if not earlier or name not in _EARLIER})

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
        encoder = None if reads_items(ids) else data.encoder
        name = f"codes by {loaded.name}"
        spelling = CodesSpelling(model, ids, encoder, name, self.template, self.max_history, data.hold_out)
        index = live_index(catalog, table, progress)
        return self._taught(CodeWriter(catalog, spelling, table, index, self, self.beam), data, progress, copied=False)

    def train(self, finder: Finder, data: Data, progress: Progress) -> CodeWriter:
        """Train a copy of the model further."""
        assert isinstance(finder, CodeWriter)
        return self._taught(finder, data, progress)

    def examples(self, finder: Finder, data: Data, count: int) -> list[dict[str, Any]]:
        """Show what `train` would learn from."""
        assert isinstance(finder, CodeWriter)
        return shown(finder, data, self.tuning, count, self.distillation)

    def _taught(self, finder: CodeWriter, data: Data, progress: Progress, copied: bool = True) -> CodeWriter:
        before = finder.spelling
        if not copied and not len(compressed(finder.index).depth):
            return finder  # one identifier alone: there is nothing to decide
        self.tuning.keeps_apart(None, None)  # the model has new tokens: it is saved whole
        taught = fine_tuned(finder, data, self.tuning, progress, copied, self.distillation)
        held_out = before.held_out and data.hold_out
        spelling = replace(before.with_language_model(taught.model), held_out=held_out, card=taught.card)
        recipe = replace(self, tuning=self.tuning.kept())
        return finder.replaced(spelling=spelling, beam=taught.beam, recipe=recipe, report=taught.report)

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
