"""The native finder: a small model, trained here, reads text vectors and histories and writes Semantic IDs."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from genrail.catalog import Catalog
from genrail.decoding import BeamSettings, Decoded
from genrail.errors import CatalogError, FingerprintError, SettingsError
from genrail.finders.generative import Generative, RailTrace, Spelling, live_index
from genrail.finders.lessons import Learning, later_events, on_held_back, on_histories, on_words
from genrail.finders.made_up import MadeUp, made_up
from genrail.finders.new_items import Memory, Mixing, Newcomers, mixed_answers, newcomers
from genrail.finders.readings import pack, unpack
from genrail.finding import Change, Data, Finder, FindOptions, Json, Progress, Recipe, Request
from genrail.identifiers import IdentifierTable
from genrail.identifiers.schemes import SCHEME, codebook_size, described, identified, spelled
from genrail.models.encoders import LazyEncoder, require_torch
from genrail.models.scripts import unread_words
from genrail.rng import generator
from genrail.training.pseudo_queries import QueryMaking

if TYPE_CHECKING:
    from genrail.identifiers.semantic_ids import SemanticIds
    from genrail.models.native import NativeModel
    from genrail.models.text_encoder import Encoder
    from genrail.training.distillation import Lessons
    from genrail.training.native import TrainingReport
    from genrail.training.pairs import QueryPairs
    from genrail.training.reinforcement import NativeCase, ReinforcementReport

__all__ = ["Native", "NativeRecipe", "NativeSpelling"]

Rows = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]

CAREFUL = 3e-4  # chosen on SciFact's training claims; made-up queries at ten times this rate cost what vectors knew
COPURCHASE_DIMENSIONS = 64  # chosen on the validation items of Amazon Beauty; docs/results.md


@dataclass(frozen=True, eq=False)
class NativeSpelling(Spelling):
    """Read queries as one text vector and histories as rows; write Semantic IDs.

    Args:
        encoder: Of words and of the texts of new items.
        identifiers: The frozen codebooks.
        model: Writes the codes.
        held_out: Was each user's last event kept out of training.
        memory: Of what training histories held; None where there was no training on histories.
    """

    encoder: LazyEncoder
    identifiers: SemanticIds
    model: NativeModel
    held_out: bool = True
    memory: Memory | None = None

    name = "native"

    def contexts(self, requests: Sequence[Request], catalog: Catalog) -> list[Any]:
        """Encode all words of the batch at once; one context per request."""
        texts = [request.text for request in requests if request.text is not None]
        vectors = iter(self.encoder.encode(texts)) if texts else iter(())
        return [
            self.model.context(next(vectors) if request.text is not None else None, request.history.tolist())
            for request in requests
        ]

    def warnings(self, request: Request) -> tuple[str, ...]:
        """Tell when only the end of a history is read, or only the beginning of a query."""
        said, most = [], self.model.settings.history
        if request.history.size > most:
            said.append(f"the model reads the last {most} of the {request.history.size} known history items")
        if request.text is not None and self.encoder.cuts(request.text):
            said.append(f"the text encoder reads the first {self.encoder.max_tokens} tokens of the query")
        if request.text is not None:
            said += unread_words(self.encoder, request.text)
        return tuple(said)

    def read(self, catalog: Catalog, rows: range, progress: Progress) -> Json:
        """Encode the new texts."""
        texts = catalog.texts()[rows.start : rows.stop]
        return pack(self.encoder.encode(texts, lambda done, total: progress("text vectors", done, total)))

    def extend(
        self, catalog: Catalog, table: IdentifierTable, change: Change
    ) -> tuple[NativeSpelling, IdentifierTable]:
        """Give the new rows codes from the frozen codebooks, and the model nodes for them."""
        vectors = unpack(change, self.encoder.dimensions)
        parts = [len(one.items) for one in change.added]
        groups = np.repeat(np.arange(len(parts)), parts)
        memory, like = (None, None) if self.memory is None else self.memory.grown(self.model, vectors, parts)

        def known() -> Vectors:
            return self._known(vectors, memory, len(table))

        new = described(self.identifiers, catalog.part(change.rows), known)
        grown = self.identifiers.extend(table, new, vocab_size=self.model.vocab_size)
        model = self.model.add_items(grown.matrix()[len(table) :], vectors, groups)
        if like is not None:
            from genrail.models.native_warm_start import warm_start

            model = warm_start(model, self.model, *like, groups)
        return replace(self, model=model, memory=memory), grown

    def _known(self, vectors: Vectors, memory: Memory | None, first: int) -> Vectors:
        """Describe new items as identifiers were made: who was taken with whom is guessed from like texts, or zero."""
        made = np.pad(vectors, ((0, 0), (0, self.identifiers.dimensions - vectors.shape[1])))
        if memory is not None and made.shape[1] == vectors.shape[1] + memory.together.shape[1]:
            made[:, vectors.shape[1] :] = memory.together[first:]
        return made

    def spell(self, prefix: Sequence[int], catalog: Catalog, table: IdentifierTable) -> str:
        """Write the words of codes that are words; else name an item below the prefix."""
        return spelled(self.identifiers, prefix, catalog, table)

    def save(self, folder: Path) -> dict[str, Json]:
        """Write codebooks and weights; the text encoder is named, not copied."""
        (folder / "model").mkdir()
        self.identifiers.save(folder / "identifiers")
        self.model.save(folder / "model")
        if self.memory is not None:
            self.memory.save(folder / "model")
        return {
            "encoder": self.encoder.details,
            "codebooks": self.identifiers.fingerprint,
            "held_out": self.held_out,
            "memory": self.memory is not None,
        }

    @classmethod
    def load(cls, folder: Path, details: Mapping[str, Any], catalog: Catalog, encoder: Encoder | None) -> Self:
        """Read what `save` wrote; the encoder itself is loaded when words first arrive.

        Raises:
            FingerprintError: The codebooks are not those of the manifest.
        """
        from genrail.identifiers.semantic_ids import SemanticIds
        from genrail.models.native import NativeModel

        identifiers = SemanticIds.load(folder / "identifiers")
        if identifiers.fingerprint != details["codebooks"]:
            raise FingerprintError(
                f"the codebooks in {folder} are {identifiers.fingerprint}, the engine was built with "
                f"{details['codebooks']}; restore the folder or build the engine again"
            )
        named = LazyEncoder.named(details["encoder"], encoder)
        memory = None
        if details.get("memory"):  # engines of earlier versions may have none
            memory = Memory.load(folder / "model")
        return cls(named, identifiers, NativeModel.load(folder / "model"), bool(details["held_out"]), memory)

    def describe(self) -> dict[str, Json]:
        """Tell encoder, identifiers and model."""
        return {
            "encoder": self.encoder.name,
            "identifiers": f"{self.identifiers.levels} x {self.identifiers.codes} codes, one to tell duplicates apart",
            **{f"model {key}": value for key, value in self.model.describe().items()},
        }


class Native(Generative):
    """Write Semantic IDs with the native model; items that came after its training can be mixed in."""

    spelling: NativeSpelling
    table: IdentifierTable

    @property
    def newcomers(self) -> Newcomers | None:
        """Give the live items that came after the model was trained; None where there are none."""
        if "_newcomers" not in self.__dict__:
            self.__dict__["_newcomers"] = newcomers(self, self.spelling.memory)
        found: Newcomers | None = self.__dict__["_newcomers"]
        return found

    def _answers(
        self, requests: Sequence[Request], contexts: Sequence[Any], k: int, options: FindOptions
    ) -> list[tuple[Decoded, RailTrace | None]]:
        asked = Mixing(self.spelling.model, self.spelling.memory, self.newcomers)
        mixed = mixed_answers(self, asked, requests, contexts, k, options)
        return [(decoded, self._traced(traces)) for decoded, traces in mixed]

    @classmethod
    def load(cls, folder: Path, details: Mapping[str, Any], catalog: Catalog, encoder: Encoder | None = None) -> Self:
        """Read what `save` wrote."""
        recipe = NativeRecipe.from_dict(details.get("recipe", {}))
        return cls.opened(folder, details, catalog, encoder, NativeSpelling, recipe)


@dataclass(frozen=True)
class NativeRecipe(Recipe):
    """Say how the native finder is made.

    Args:
        levels: Codes of an identifier before the one that tells duplicates apart; 3 is TIGER's choice (Rajput et al.
            2023).
        codes: Size of a codebook; None for 256, or a quarter of the items where there are fewer than 1,024.
        identifiers: How items become codes: from vectors by `kmeans` (residual k-means), `rqvae`, `pq` or `lsh`,
            from their columns, as words, by `attributes`, or `atomic`, a code for each item; see
            `genrail.identifiers.quantizer.quantizers`.
        pseudo_queries: Made-up queries for each item, so that search works without a log; with fewer the build is
            faster.
        train_items: Make up queries for so many items only, drawn by seed; None for all.
        max_seconds: Stop training after this long and keep the best so far; None trains to the end.
        epochs: Passes over the training data at most; None chooses by the size of the catalogue and the events.
        learning_rate: The highest; None chooses likewise, and for rewards takes that of `learning`.
        making: How queries are made up.
        beam: How to search.
        learning: What is learnt from.

    Cost: about a minute per 10,000 items on two cores without interactions; see docs/results.md.
    """

    kind: ClassVar[str] = "native"
    finder: ClassVar[type[Finder]] = Native
    learns: ClassVar[bool] = True
    takes_teacher: ClassVar[bool] = True

    levels: int = 3
    codes: int | None = None
    identifiers: str = SCHEME
    pseudo_queries: int = 4
    making: QueryMaking = field(default_factory=QueryMaking)
    train_items: int | None = None
    max_seconds: float | None = None
    epochs: int | None = None
    learning_rate: float | None = None
    beam: BeamSettings = field(default_factory=BeamSettings)
    learning: Learning = field(default_factory=Learning)

    def __post_init__(self) -> None:
        if isinstance(self.learning, Mapping):  # from a manifest
            object.__setattr__(self, "learning", Learning(**self.learning))
        if isinstance(self.making, Mapping):
            object.__setattr__(self, "making", QueryMaking(**self.making))
        if isinstance(self.beam, Mapping):
            object.__setattr__(self, "beam", BeamSettings(**self.beam))
        if self.learning_rate is not None and not self.learning_rate > 0.0:
            raise SettingsError(f"learning_rate is {self.learning_rate}; give more than 0")
        if self.train_items is not None and self.train_items < 1:
            raise SettingsError(f"train_items is {self.train_items}; give 1 or more")

    @property
    def asks_teacher(self) -> bool:
        """See `Recipe.asks_teacher`."""
        return self.learning.asks

    def codebook(self, items: int) -> int:
        """Choose the size of a codebook for so many items."""
        return self.codes if self.codes is not None else codebook_size(self.identifiers, items)

    def build(self, data: Data, progress: Progress) -> Native:
        """Encode, quantise, train."""
        require_torch()
        catalog = data.catalog
        if not catalog.live.any():
            raise CatalogError("the catalogue has no items; read one with at least one row")
        vectors = data.text_vectors(progress)
        progress("identifiers", 0, 1)
        memory = None if data.interactions is None else _memory(None, data)
        known = vectors if memory is None else np.concatenate([vectors, memory.together], axis=1)
        identifiers, table = identified(self.identifiers, catalog, lambda: known, self.levels, self.codes, data.seed)
        progress("identifiers", 1, 1)
        return self.coded(data, vectors, identifiers, table, memory, progress)

    def coded(
        self,
        data: Data,
        vectors: Vectors,
        identifiers: SemanticIds,
        table: IdentifierTable,
        memory: Memory | None,
        progress: Progress,
    ) -> Native:
        """Build index and model on identifiers that are there, and train the model.

        Args:
            data: To learn from.
            vectors: Of the texts, (rows, dimensions).
            identifiers: The frozen codebooks.
            table: Identifier of each row.
            memory: What training histories hold, or None without interactions.
            progress: Called with (stage, done, total).
        """
        from genrail.models.native import NativeModel
        from genrail.models.native_settings import NativeSettings

        size = max(table.vocab_size, identifiers.codes)
        model = NativeModel.create(NativeSettings(), table.matrix(), vectors, data.seed, vocab_size=size)
        spelling = NativeSpelling(data.encoder, identifiers, model, data.hold_out, memory)
        index = live_index(data.catalog, table, progress)
        report = self._taught(spelling, data, None, progress)
        return Native(data.catalog, spelling, table, index, self, self.beam, report)

    def train(self, finder: Finder, data: Data, progress: Progress) -> Native:
        """Train a copy of the model further."""
        assert isinstance(finder, Native)
        before = finder.spelling
        memory = before.memory if data.interactions is None else _memory(before.memory, data)
        held_out = before.held_out and data.hold_out
        after = replace(before, model=copy.deepcopy(before.model), held_out=held_out, memory=memory)
        judged = _judged_pairs(before.encoder, data)
        if self.learning.recipe == "grpo":
            return finder.replaced(spelling=after, report=self._rewarded(after, data, judged, progress))
        return finder.replaced(spelling=after, report=self._taught(after, data, judged, progress))

    def _rewarded(
        self, spelling: NativeSpelling, data: Data, given: QueryPairs | None, progress: Progress
    ) -> ReinforcementReport:
        """Teach the model, in place, by the reward of what it writes for histories and judged queries."""
        from genrail.training.reinforcement import NativeCase, reinforce

        model, settings, data = spelling.model, self.learning.reinforcement, data.without_validation
        most = settings.requests * settings.epochs
        lessons = self._lessons(spelling, data, progress, most)
        if data.sequences is None and given is None and not lessons:
            given, _ = self._made_up(spelling.encoder, data, self.pseudo_queries, data.seed, progress)
        random = generator(data.seed, "rewarded requests")
        cases = [case for one in lessons if one.queries is not None for case in _cases(model, one)]
        if given is not None:
            pairs = zip(given.vectors, given.rows, strict=True)
            cases += [NativeCase(model.context(vector), int(row)) for vector, row in pairs]
        cases = [cases[place] for place in random.permutation(len(cases))[:most].tolist()]
        held_out = cases[: len(cases) // 5] if data.held_back is None else []
        cases = cases[len(held_out) :]
        if lessons:
            cases += [case for one in lessons if one.queries is None for case in _cases(model, one)]
        elif data.sequences is not None:
            pasts, targets, _ = later_events(data.sequences, most, random, model.settings.history)
            events = zip(pasts, targets, strict=True)
            cases += [NativeCase(model.context(history=past), int(row)) for past, row in events]
        if data.held_back is not None and lessons:
            held_out = _cases(model, on_held_back(data.teacher, data, self.learning.distillation, progress))
        elif data.held_back is not None:
            held_out = [NativeCase(model.context(history=past), row) for past, row in data.held_back.cases()]
        own: dict[str, Any] = {"epochs": self.epochs, "learning_rate": self.learning_rate}
        return reinforce(
            model,
            cases,
            replace(settings, **{name: value for name, value in own.items() if value is not None}),
            validation=held_out,
            max_seconds=self.max_seconds,
            seed=data.seed,
            progress=lambda now: progress("training", round(now.seconds), round(now.seconds + now.seconds_left)),
        )

    def _taught(
        self, spelling: NativeSpelling, data: Data, given: QueryPairs | None, progress: Progress
    ) -> TrainingReport:
        """Teach the model, in place, from its catalogue's text, interactions, judged queries and a teacher."""
        from genrail.training.native import train_native
        from genrail.training.native_settings import TrainingSettings
        from genrail.training.pairs import QueryPairs

        pairs, made = self._made_up(spelling.encoder, data, self.pseudo_queries, data.seed, progress)
        if given is not None:
            pairs = QueryPairs(np.concatenate([pairs.vectors, given.vectors]), np.concatenate([pairs.rows, given.rows]))
        sequences = None if data.sequences is None else (data.sequences.rows, data.sequences.offsets)
        targets = 0 if sequences is None else max(0, len(sequences[0]) - len(sequences[1]) + 1)
        held_back = data.held_back
        report = train_native(
            spelling.model,
            sequences,
            pairs,
            TrainingSettings.for_size(
                len(data.catalog), targets, self.max_seconds, self.epochs, self.learning_rate or self._careful(data)
            ),
            lessons=self._lessons(spelling, data, progress),
            validation=None if held_back is None else list(held_back.cases()),
            seed=data.seed,
            progress=lambda now: progress("training", round(now.seconds), round(now.seconds + now.seconds_left)),
        )
        return replace(report, written=made.counts)

    def _careful(self, data: Data) -> float | None:
        """Choose a low rate where a code of each item makes the model a search by vectors before it learns anything."""
        return CAREFUL if self.identifiers == "atomic" and data.sequences is None else None

    def _lessons(
        self, spelling: NativeSpelling, data: Data, progress: Progress, most: int | None = None
    ) -> list[Lessons]:
        """Ask the teacher, if there is one, about so many histories at most."""
        settings = self.learning.distillation
        if most is not None:
            settings = replace(settings, histories=min(settings.histories, most))
        if not self.learning.asks:
            return []
        if data.teacher is None:
            raise SettingsError(
                "there is nobody to learn from; give a teacher, an engine over the same items, or build an engine with "
                "further lanes"
            )
        found = [on_histories(data.teacher, data, spelling.model.settings.history, settings, progress)]
        if variants := settings.queries or (self.pseudo_queries if data.sequences is None else 0):
            # Others than those that are learnt anyway, where they cost nothing.
            other = int(generator(data.seed, "lessons", "queries").integers(2**31))
            seed = data.seed if self.making.made == "written" else other
            pairs, made = self._made_up(spelling.encoder, data, variants, seed, progress)
            found.append(on_words(data.teacher, data, made.queries, pairs.vectors, pairs.rows, settings, progress))
        return [one for one in found if one is not None]

    def _made_up(
        self, encoder: LazyEncoder, data: Data, variants: int, seed: int, progress: Progress
    ) -> tuple[QueryPairs, MadeUp]:
        """Make up queries for the live items, and encode them."""
        from genrail.training.pairs import QueryPairs

        catalog, rows = data.catalog, np.flatnonzero(data.catalog.live)
        if self.train_items is not None and self.train_items < len(catalog):
            random = generator(data.seed, "taught items")
            chosen = random.choice(len(catalog), self.train_items, replace=False)
            rows = rows[np.isin(rows, chosen)]
        made = made_up(data, rows, variants, self.making, progress, seed=seed)
        if not made.queries:
            raise CatalogError("no item has a title or text; nothing to make queries from")
        vectors = encoder.encode(made.queries, lambda done, total: progress("pseudo-query vectors", done, total))
        return QueryPairs(np.asarray(vectors, dtype=np.float32), made.rows), made

    def to_dict(self) -> dict[str, Json]:
        """Turn the settings into plain values."""
        return asdict(replace(self, making=self.making.kept()))


def _cases(model: NativeModel, lessons: Lessons) -> list[NativeCase]:
    """Turn requests with what a teacher lists for them, the right item first, into cases for rewards."""
    from genrail.training.reinforcement import NativeCase

    queries = [None] * len(lessons) if lessons.queries is None else lessons.queries
    return [
        NativeCase(model.context(query, past), int(rows[0]), (rows, shares))
        for query, past, rows, shares in zip(queries, lessons.histories, lessons.rows, lessons.shares, strict=True)
    ]


def _memory(before: Memory | None, data: Data) -> Memory:
    """Remember which items training histories hold, and which are taken together."""
    from genrail.finding.data import without_last
    from genrail.training.copurchase import copurchase_vectors

    assert data.interactions is not None and data.sequences is not None
    size = len(data.catalog)
    if before is None:
        # Identifiers are made without the last events even where training sees them, so that both engines share them.
        kept = data.sequences if data.hold_out else without_last(data.sequences)
        together = copurchase_vectors(kept.rows, kept.offsets, size, COPURCHASE_DIMENSIONS, seed=data.seed)
        before = Memory(np.zeros(size, dtype=np.bool_), together, size)
    return before.taught(data.sequences.rows, size)


def _judged_pairs(encoder: LazyEncoder, data: Data) -> QueryPairs | None:
    """Turn judged queries into (vector, item) pairs; items with a grade above 0 count."""
    from genrail.training.pairs import QueryPairs

    if not data.judged or data.queries is None:
        return None
    wanted = [
        (data.queries[query_id], item_id)
        for query_id, grades in data.judged.items()
        for item_id, grade in grades.items()
        if grade > 0
    ]
    vectors = np.asarray(encoder.encode([text for text, _ in wanted]), dtype=np.float32)
    return QueryPairs(vectors, data.catalog.rows([item_id for _, item_id in wanted]))
