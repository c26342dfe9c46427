"""A language model reads a prompt and writes titles, or other words for the items."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from genrail.catalog import Catalog
from genrail.catalog.values import written
from genrail.constraints.compressed import CompressedTrie, compressed
from genrail.constraints.segments import LiveTrie
from genrail.decoding import BeamSettings
from genrail.decoding.decoders import Calibrated, Decoder
from genrail.decoding.empty_scores import EmptyScores
from genrail.decoding.rails import reads_runs
from genrail.decoding.summing import Combine
from genrail.errors import CatalogError, SettingsError
from genrail.finders.catalog_facts import catalog_facts, check_column
from genrail.finders.empty_kept import EmptyKept
from genrail.finders.generative import Generative, Spelling, live_index
from genrail.finders.lessons import Distillation
from genrail.finders.written_settings import typed_setting
from genrail.finding import Change, Data, Finder, FindOptions, Json, Progress, Recipe, Request
from genrail.finding.finder import unknown
from genrail.identifiers import IdentifierTable
from genrail.identifiers.several import SeveralIdentifiers
from genrail.identifiers.table import Identifiers
from genrail.identifiers.wording import TITLE, Wording
from genrail.models.at_hand import BACKENDS, Backend, Precision
from genrail.models.encoders import require_torch
from genrail.models.identifier_writer import WriterSettings, write_identifiers
from genrail.models.model_card import ModelCard
from genrail.models.prompts import Example, Prompts, PromptTemplate
from genrail.training.fine_tuning_settings import FineTuning
from genrail.types import JsonObject

if TYPE_CHECKING:
    from genrail.models.adapters import Adapter
    from genrail.models.causal import CausalModel
    from genrail.models.seq2seq import Seq2SeqModel
    from genrail.models.text_encoder import Encoder
    from genrail.models.vllm import VllmModel
    from genrail.training.pairs import Pair

__all__ = ["LanguageModelSettings", "TitleSpelling", "TitleWriter", "TitlesRecipe"]

MOST_CALIBRATED = 50_000  # items of which what they have anyway is read unasked: four minutes of a core
LEAST_HELD = 16  # held-out requests on which the weight of the calibration is chosen; fewer say nothing


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
        spelling: What an item is called by, and what its identifier therefore begins with: ``title``, ``kind-first``,
            ``brand-last``, or a template such as ``{category}: {title}``; see `Wording`. Several make several
            identifiers of each item. Users see titles all the same.
        end: What closes an identifier: the tokenizer's end of sequence (``eos``), or a ``newline``, which base models
            find more likely. It counts where one title begins another, and for log p over the whole vocabulary.
        aliases: A column of further identifiers of each item, separated by ``|``, besides its title.
        writer: Let the model itself write further identifiers of each item, see `WriterSettings`; None for titles.
        combine: How an item with several identifiers is scored: by its `best` one, or by their `sum`.
        calibration: Rank by how much the request raises a title's probability over what it has anyway, with this
            weight, 0 to 1; the search then runs on the rails (`renormalised`), a fraction of the cost. 0 leaves
            log p(title | request) over the whole vocabulary. What titles have anyway is computed once, when the finder
            is built, and kept. Default: 1 for a model that was not taught here, which needs it
            (docs/language-models.md), and a catalogue that is read in minutes; else 0.
        dtype: Precision of the weights, of a model given by name or folder.
        device: Where it computes, such as `cpu` or `cuda`.
        attention: See `CausalModel`.
        backend: What computes a model given by name or folder: `transformers`, or `vllm`, which chooses device itself.
        backend_settings: Handed to ``vllm.LLM``, such as ``max_model_len``.
    """

    template: PromptTemplate | None = None
    examples: tuple[Example, ...] = ()
    max_history: int = 20
    chat: bool | None = None
    catalog_facts: tuple[str, ...] = ()
    item_facts: tuple[str, ...] = ()
    spelling: str | tuple[str, ...] = TITLE
    end: Literal["eos", "newline"] = "eos"
    aliases: str | None = None
    writer: WriterSettings | None = None
    combine: Combine = "best"
    calibration: float | None = None
    dtype: Precision = "float32"
    device: str = "cpu"
    attention: Literal["auto", "shared", "rows"] = "auto"
    backend: Backend = "transformers"
    backend_settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise SettingsError(f"backend is {self.backend!r}; give {' or '.join(map(repr, BACKENDS))}")
        if self.backend == "vllm" and (self.device != "cpu" or self.attention != "auto"):
            raise SettingsError("backend='vllm' chooses device and attention itself; leave these two out")
        if self.backend_settings and self.backend != "vllm":
            raise SettingsError("backend_settings are those of backend='vllm'; give that, or leave them out")
        if self.end not in ("eos", "newline"):
            raise SettingsError(f"end is {self.end!r}; give 'eos' or 'newline'")
        if self.combine not in ("best", "sum"):
            raise SettingsError(f"combine is {self.combine!r}; give 'best' or 'sum'")
        if self.calibration is not None and not 0 <= self.calibration <= 1:
            raise SettingsError(f"calibration is {self.calibration}; give 0 to 1")
        if self.calibration and self.combine == "sum":
            raise SettingsError("calibration compares one identifier of each item; give combine='best'")

    @property
    def loading(self) -> JsonObject:
        """Give how a model is loaded by `load_checkpoint`, beside its precision."""
        if self.backend == "vllm":
            return {"backend": self.backend, **self.backend_settings}
        return {"device": self.device, "attention": self.attention, "packed": True}

    @property
    def several(self) -> bool:
        """Tell whether items may have more than one identifier."""
        return self.aliases is not None or self.writer is not None or len(self.spellings) > 1

    @property
    def spellings(self) -> tuple[str, ...]:
        """List what items are called by."""
        return (self.spelling,) if isinstance(self.spelling, str) else tuple(self.spelling)

    def to_dict(self) -> JsonObject:
        """Turn the settings into plain values."""
        plain: JsonObject = json.loads(json.dumps(asdict(self)))  # tuples become lists
        return plain

    @classmethod
    def from_dict(cls, values: JsonObject) -> LanguageModelSettings:
        """Read what `to_dict` gave, perhaps by way of JSON."""
        known = {one.name for one in fields(cls)}
        plain = {name: typed_setting(name, value) for name, value in values.items() if name in known}
        return cls(**plain)


@dataclass(frozen=True, eq=False)
class TitleSpelling(Spelling):
    """Let a causal or seq2seq checkpoint write titles, untrained.

    Args:
        model: The checkpoint with its tokenizer.
        source: Name on the hub, to be loaded from there again; None for a local or in-memory one, which is copied into
            the saved folder.
        settings: How it is asked.
        facts: Of the catalogue, as they stand in every prompt.
        wording: How items are called, fitted to the catalogue that the finder was built with.
        adapter: What was learnt over the model called `source`, merged into `model` already: it is saved instead of the
            weights.
        held_out: Was each user's last event kept out of what was learnt.
        card: What it was taught here; None where it was not.
    """

    model: CausalModel | Seq2SeqModel | VllmModel
    source: str | None = None
    settings: LanguageModelSettings = field(default_factory=LanguageModelSettings)
    facts: str = ""
    wording: Wording = field(default_factory=Wording)
    adapter: Adapter | None = None
    held_out: bool = True
    card: ModelCard | None = None
    encoder: None = field(default=None, init=False)
    name: str = field(default="", init=False)
    prompts: Any = field(init=False, repr=False)
    titles: Any = field(init=False, repr=False)
    empty: EmptyKept = field(init=False, repr=False)

    def __post_init__(self) -> None:
        from genrail.identifiers.titles import Titles, line_break

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
        object.__setattr__(self, "name", self.source or self.model.name)
        end = line_break(tokenizer) if settings.end == "newline" else None
        object.__setattr__(self, "titles", Titles(tokenizer, end_token=end))
        self.changed()

    @property
    def language_model(self) -> CausalModel:
        """Give the model, if it is a causal one."""
        from genrail.models.causal import CausalModel

        if isinstance(self.model, CausalModel):
            return self.model
        raise SettingsError(
            f"{self.name} is an encoder-decoder or computed by vLLM; fine-tuning takes a causal model of transformers"
        )

    def with_language_model(self, model: CausalModel) -> TitleSpelling:
        """Ask another model in the same words."""
        return replace(self, model=model)

    def changed(self) -> None:
        """Forget what was read with earlier weights; what every prompt begins with is read once, and now."""
        from genrail.models.causal import CausalModel

        object.__setattr__(self, "empty", EmptyKept())
        if isinstance(self.model, CausalModel):
            self.model.remember_prefix([])
            self.model.remember_prefix(self.prompts.shared_prefix())

    @property
    def longest_history(self) -> int:
        """Give how many items of a history are read."""
        return self.settings.max_history

    @property
    def _seq2seq(self) -> bool:
        return self.model.family == "seq2seq"

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

    def empty_context(self) -> Any:
        """Render the prompt of a request that says nothing."""
        return self.prompts.empty()

    def empty_scores(self, trie: CompressedTrie, progress: Progress | None = None) -> EmptyScores | None:
        """Give what titles have anyway; what is not known yet is read now, and kept."""
        if not reads_runs(self.model):
            return None
        tell = None if progress is None else partial(progress, "titles without a request")
        return self.empty.extended(self.model, self.empty_context(), trie, tell)

    def warnings(self, request: Request) -> tuple[str, ...]:
        """Tell when only the end of a history is read."""
        most, given = self.settings.max_history, request.history.size
        return (f"the model reads the last {most} of the {given} known history items",) if given > most else ()

    def _line(self, catalog: Catalog, row: int) -> str:
        """Write an item of a history: its title, and what else is told of it."""
        if not self.settings.item_facts:
            return catalog.titles[row]
        values = catalog.attributes(row)
        facts = [f"{name} {values[name]}" for name in self.settings.item_facts if values.get(name) not in (None, "")]
        return f"{catalog.titles[row]} ({', '.join(facts)})" if facts else catalog.titles[row]

    def identify(self, catalog: Catalog, progress: Progress) -> Identifiers:
        """Give every row its title as identifier, and the others that the settings ask for."""
        for name in (*self.settings.item_facts, *([self.settings.aliases] if self.settings.aliases else [])):
            check_column(catalog, name)
        rows = range(len(catalog))
        return self._spell(catalog, rows, self.read(catalog, rows, progress))

    def read(self, catalog: Catalog, rows: range, progress: Progress) -> JsonObject:
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

    def extend(self, catalog: Catalog, table: Any, change: Change) -> tuple[TitleSpelling, Identifiers]:
        """Tokenise the new titles and other identifiers."""
        for one in change.added:
            reading = one.reading if isinstance(one.reading, Mapping) else {}
            table = table.extend(self._spell(one.items, range(len(one.items)), reading))
        return self, table

    def _spell(self, catalog: Catalog, rows: range, reading: Mapping[str, Any]) -> Identifiers:
        item_ids = catalog.item_ids[rows.start : rows.stop]
        lists = [self.wording.words(catalog, row) for row in rows]
        if not self.settings.several:
            table: IdentifierTable = self.titles.assign([first for first, *_ in lists], item_ids)
            return table
        written = reading.get("identifiers", [[]] * len(rows))
        lists = [
            [*known, *self._aliases(catalog, row), *others]
            for known, row, others in zip(lists, rows, written, strict=True)
        ]
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

    def spell(self, prefix: Sequence[int], catalog: Catalog, table: Identifiers) -> str:
        """Decode the tokens."""
        text: str = self.titles.decode(prefix)
        return text

    def save(self, folder: Path) -> dict[str, Json]:
        """Copy weights and tokenizer, unless they can be loaded by name again; name and fingerprint the checkpoint."""
        from genrail.models.checkpoints import save_checkpoint

        saved = save_checkpoint(self.model, self.source, self.adapter, folder, self.card)
        return {
            **saved,
            "name": self.name,
            "held_out": self.held_out,
            "card": None if self.card is None else self.card.to_dict(),
            "settings": self.settings.to_dict(),
            "facts": self.facts,
            "wording": self.wording.to_dict(),
            "empty": self.empty.save(folder, self.empty_context()),
            "calibration": self.empty.weight,
        }

    @classmethod
    def load(cls, folder: Path, details: Mapping[str, Any], catalog: Catalog, encoder: Encoder | None) -> Self:
        """Read what `save` wrote.

        Raises:
            FingerprintError: Weights or tokenizer are not those the engine was built with.
        """
        from genrail.models.checkpoints import open_checkpoint

        settings = LanguageModelSettings.from_dict(details.get("settings", {}))
        model, adapter = open_checkpoint(folder, details, settings.backend_settings)
        held_out = bool(details.get("held_out", True))
        wording = Wording.from_dict(details["wording"]) if "wording" in details else Wording()
        facts, card = str(details.get("facts", "")), ModelCard.from_dict(details.get("card"))
        made = cls(model, details["checkpoint"], settings, facts, wording, adapter, held_out, card)
        if details.get("empty") is not None:
            made.empty.load(folder, details["empty"], made.empty_context())
        if details.get("calibration") is not None:
            made.empty.choose(float(details["calibration"]))
        return made

    def describe(self) -> JsonObject:
        """Tell which checkpoint this is."""
        kind = f"titles and others, scored by the {self.combine}" if self.settings.several else "titles"
        return {"identifiers": kind, **{f"model {key}": value for key, value in self.model.describe().items()}}


class TitleWriter(Generative):
    """Let a language model write titles, or other identifiers in words."""

    spelling: TitleSpelling

    def decoder(self, options: FindOptions) -> Decoder:
        """Give the decoder of a request: calibrated, where the request names no way of its own."""
        chosen = super().decoder(options)
        weight = self.spelling.settings.calibration
        if weight is None:
            empty = self.spelling.empty
            weight = empty.weight if empty.weight is not None else 1.0 if empty.known else 0.0
        if not weight or options.decoder is not None or options.meaning or not isinstance(chosen, BeamSettings):
            return chosen
        along = reads_runs(self.spelling.model) and isinstance(self.index, LiveTrie)
        return Calibrated(replace(chosen, meaning="renormalised") if along else chosen, weight)

    @classmethod
    def load(cls, folder: Path, details: Mapping[str, Any], catalog: Catalog, encoder: Encoder | None = None) -> Self:
        """Read what `save` wrote."""
        recipe = TitlesRecipe(details["checkpoint"])
        made = cls.opened(folder, details, catalog, encoder, TitleSpelling, recipe)
        saved = {name: one for name, one in details.get("recipe", {}).items() if name in ("tuning", "distillation")}
        own = {"model": details["checkpoint"], "settings": made.spelling.settings, "beam": made.beam}
        return made.replaced(recipe=TitlesRecipe.from_dict({**own, **saved}))


@dataclass(frozen=True)
class TitlesRecipe(Recipe):
    """Load a language model and let it write titles.

    Args:
        model: Name or folder of a causal or seq2seq checkpoint, or a loaded one.
        settings: Prompt, examples, catalogue facts, and how many identifiers an item has.
        beam: How to search.
        tuning: How `train` teaches it.
        distillation: How it learns from a teacher.
    """

    kind: ClassVar[str] = "titles"
    finder: ClassVar[type[Finder]] = TitleWriter
    takes_language_model: ClassVar[bool] = True
    takes_teacher: ClassVar[bool] = True

    model: Any = None
    settings: LanguageModelSettings = field(default_factory=LanguageModelSettings)
    beam: BeamSettings = field(default_factory=BeamSettings)
    tuning: FineTuning = field(default_factory=FineTuning)
    distillation: Distillation = field(default_factory=Distillation)

    @property
    def asks_teacher(self) -> bool:
        """See `Recipe.asks_teacher`."""
        return self.tuning.asks

    def build(self, data: Data, progress: Progress) -> TitleWriter:
        """Load the model and spell every title with its tokenizer."""
        require_torch()
        catalog = data.catalog
        if not catalog.live.any():
            raise CatalogError("the catalogue has no items; read one with at least one row")
        spelling = self._spelling(catalog, progress)
        progress("titles", 0, len(catalog))
        table = spelling.identify(catalog, progress)
        progress("titles", len(catalog), len(catalog))
        index = live_index(catalog, table, progress)
        if self._calibrates(catalog) and isinstance(index, LiveTrie):
            spelling.empty_scores(compressed(index), progress)
        return TitleWriter(catalog, spelling, table, index, self, self.beam)

    def train(self, finder: Finder, data: Data, progress: Progress) -> TitleWriter:
        """Teach a copy of the model which titles follow which requests; what it then writes, it writes on the rails.

        Where LoRA learnt over a model that has a name, the finder keeps the adapter apart, and is saved without the
        weights of the model. How much it is calibrated is chosen on what was held out, where `calibration` is None.
        """
        from genrail.finders.fine_tuning import fine_tuned

        assert isinstance(finder, TitleWriter)
        before = finder.spelling
        apart = self.tuning.keeps_apart(before.source, before.adapter)
        taught = fine_tuned(finder, data, self.tuning, progress, distillation=self.distillation)
        taught.model.name = before.name
        spelling = replace(
            before,
            model=taught.model,
            source=before.source if apart else None,
            adapter=taught.adapter if apart else None,
            held_out=before.held_out and data.hold_out,
            card=taught.card,
        )
        recipe = replace(self, beam=taught.beam, tuning=self.tuning.kept())
        made = finder.replaced(spelling=spelling, beam=taught.beam, recipe=recipe, report=taught.report)
        return self._calibrated(made, taught.held, progress)

    def _calibrated(self, made: TitleWriter, held: Sequence[Pair], progress: Progress) -> TitleWriter:
        """Choose on held-out requests how much a taught model is calibrated, where that is left to us and quick."""
        from genrail.finders.calibration_weight import chosen_weight

        settings, spelling = self.settings, made.spelling
        quick = settings.combine == "best" and len(made.catalog) <= MOST_CALIBRATED and len(held) >= LEAST_HELD
        if settings.calibration is not None or not quick or not isinstance(made.index, LiveTrie):
            return made
        if spelling.empty_scores(compressed(made.index), progress) is not None:
            spelling.empty.choose(chosen_weight(made, made.catalog, made.beam, held, progress))
        return made

    def examples(self, finder: Finder, data: Data, count: int) -> list[JsonObject]:
        """Show what `train` would learn from."""
        from genrail.finders.fine_tuning import shown

        assert isinstance(finder, TitleWriter)
        return shown(finder, data, self.tuning, count, self.distillation)

    def _calibrates(self, catalog: Catalog) -> bool:
        """Tell whether what titles have anyway is read at once: where asked for, and by default where that is quick."""
        settings = self.settings
        if settings.calibration is not None:
            return settings.calibration > 0
        return settings.combine == "best" and self.beam.meaning == "full_softmax" and len(catalog) <= MOST_CALIBRATED

    def _spelling(self, catalog: Catalog, progress: Progress) -> TitleSpelling:
        from genrail.models.checkpoints import load_checkpoint

        model, settings, facts = self.model, self.settings, catalog_facts(catalog, self.settings.catalog_facts)
        wording = Wording.fit(catalog, self.settings.spellings)
        if not isinstance(model, str | Path):
            if not hasattr(model, "prefill") or not hasattr(model, "tokenizer"):
                raise SettingsError(
                    f"{model!r} is no language model; give a name, a folder, or what load_checkpoint returns"
                )
            return TitleSpelling(model, None, self.settings, facts, wording)
        loaded = load_checkpoint(model, dtype=settings.dtype, progress=progress, **settings.loading)
        return TitleSpelling(loaded, None if Path(model).exists() else str(model), settings, facts, wording)

    def to_dict(self) -> dict[str, Json]:
        """Turn the settings into plain values; a model that has no name is saved by itself."""
        named = self.model if isinstance(self.model, str) else None
        plain = {"settings": self.settings.to_dict(), "beam": asdict(self.beam), "tuning": self.tuning.to_dict()}
        return {"model": named, **plain, "distillation": asdict(self.distillation)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` gave; fields of `LanguageModelSettings` can be given by themselves too."""
        own = {one.name for one in fields(LanguageModelSettings)}
        unknown(values, {"model", "settings", "beam", "tuning", "distillation", *own}, cls.kind)
        settings = values.get("settings", LanguageModelSettings())
        if not isinstance(settings, LanguageModelSettings):
            settings = LanguageModelSettings.from_dict(settings)
        typed = {name: typed_setting(name, value) for name, value in values.items() if name in own}
        beam = values.get("beam", BeamSettings())
        beam = BeamSettings(**beam) if isinstance(beam, Mapping) else beam
        tuning = values.get("tuning", FineTuning())
        tuning = FineTuning.from_dict(tuning) if isinstance(tuning, Mapping) else tuning
        taught = values.get("distillation", Distillation())
        taught = Distillation(**taught) if isinstance(taught, Mapping) else taught
        return cls(values.get("model"), replace(settings, **typed), beam, tuning, taught)
