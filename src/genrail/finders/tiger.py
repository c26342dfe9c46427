"""TIGER as a finder: the reference that generative recommenders are compared with."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from genrail.decoding import BeamSettings
from genrail.errors import CatalogError, FingerprintError, FormatError, SettingsError, ShapeError
from genrail.evaluation.splits import HeldOut
from genrail.finders.arrays import load_array, save_arrays
from genrail.finders.generative import Generative, Spelling, live_index
from genrail.finders.readings import pack, unpack
from genrail.finders.scoring import (
    HISTORY_ALONE,
    NO_WORDS,
    Integers,
    event_counts,
    grown_rows,
    no_events,
    popular_first,
)
from genrail.finding import finder as seam
from genrail.finding.finder import Change, Finder, FindOptions, Found, Json, Recipe
from genrail.finding.ranks import tie_order, top_rows
from genrail.identifiers import IdentifierTable, SemanticIds
from genrail.identifiers.schemes import SCHEME, described, identified, reads_items, spelled
from genrail.models.encoders import LazyEncoder, require_torch
from genrail.models.tiger import TigerModel, TigerSettings
from genrail.training.loop import LoopSettings, Progress
from genrail.training.tiger import TigerTraining, train_tiger
from genrail.types import JsonObject

if TYPE_CHECKING:
    from genrail.catalog import Catalog
    from genrail.evaluation.splits import FlatSequences
    from genrail.finding.data import Data
    from genrail.finding.requests import Request
    from genrail.models.text_encoder import Encoder
    from genrail.training.loop import LoopReport

__all__ = ["TIGER", "TigerRecipe", "TigerSpelling"]


@dataclass(frozen=True, eq=False)
class TigerSpelling(Spelling):
    """Read a history as the Semantic IDs of its items, and write the next one.

    Args:
        model: The T5.
        codes: Of each row, shape (rows, levels).
        counts: Training events of each row, shape (rows,): what answers where there is no history.
        identifiers: The frozen codebooks, which give new items their codes; None where the codes came from elsewhere.
        encoder: Of the texts of new items; None where the codebooks need no vectors.
        seed: Of the order between items nobody knows anything about.
        held_out: Was each user's last event kept out of training.
    """

    model: TigerModel
    codes: npt.NDArray[np.int64]
    counts: Integers
    identifiers: SemanticIds | None = None
    encoder: LazyEncoder | None = None
    seed: int = 0
    held_out: bool = True

    name = "TIGER"

    def contexts(self, requests: Sequence[Request], catalog: Catalog) -> Sequence[object]:
        """Lay out the last items of each history as tokens; a request without one has an empty context."""
        most = self.model.settings.history
        return [self.model.tokens_of(self.codes[one.history[-most:]]).reshape(-1).tolist() for one in requests]

    def warnings(self, request: Request) -> tuple[str, ...]:
        """Tell that words are not read, and when only the end of a history is."""
        most, given = self.model.settings.history, request.history.size
        cut = (f"the model reads the last {most} of the {given} known history items",) if given > most else ()
        return (*cut, HISTORY_ALONE) if request.text else cut

    @property
    def reads_words(self) -> bool:
        """Words change nothing."""
        return False

    def read(self, catalog: Catalog, rows: range, progress: seam.Progress) -> Json:
        """Encode the new texts, where codes are made from vectors."""
        if self.encoder is None:
            return None
        texts = catalog.texts()[rows.start : rows.stop]
        return pack(self.encoder.encode(texts, lambda done, total: progress("text vectors", done, total)))

    def extend(self, catalog: Catalog, table: IdentifierTable, change: Change) -> tuple[TigerSpelling, IdentifierTable]:
        """Give the new rows codes from the frozen codebooks.

        Raises:
            SettingsError: The codes came from elsewhere, so there are no codebooks.
        """
        if self.identifiers is None:
            raise SettingsError(
                "this TIGER was given its codes, so it cannot make those of new items; build it by its recipe instead"
            )
        width = 0 if self.encoder is None else self.encoder.dimensions
        new = described(self.identifiers, catalog.part(change.rows), lambda: unpack(change, width))
        plain = IdentifierTable.from_matrix(self.codes, self.model.size, source=self.identifiers.fingerprint)
        codes = self.identifiers.extend(plain, new, vocab_size=self.model.size).matrix().astype(np.int64)
        made = replace(self, codes=codes, counts=grown_rows(self.counts, catalog, 0))
        return made, made.table()

    def table(self) -> IdentifierTable:
        """Give the tokens of each row; each level has its own."""
        source = "" if self.identifiers is None else self.identifiers.fingerprint
        return IdentifierTable.from_matrix(self.model.tokens_of(self.codes), self.model.pad, source=source)

    def spell(self, prefix: Sequence[int], catalog: Catalog, table: IdentifierTable) -> str:
        """Write the words of codes that are words; else name an item below the prefix."""
        if self.identifiers is not None and reads_items(self.identifiers):
            codes = [token - level * self.model.size for level, token in enumerate(prefix)]
            return spelled(self.identifiers, codes, catalog, table)
        below = (table.matrix()[:, : len(prefix)] == np.asarray(prefix)).all(axis=1) & catalog.live
        return f"e.g. {catalog.titles[int(below.argmax())]}" if below.any() else ""

    def save(self, folder: Path) -> dict[str, Json]:
        """Write weights, counts and codebooks; the text encoder is named, not copied."""
        save_arrays(folder, {"counts": self.counts})
        self.model.save(folder)
        if self.identifiers is not None:
            self.identifiers.save(folder / "identifiers")
        return {
            "model": self.model.fingerprint,
            "codebooks": None if self.identifiers is None else self.identifiers.fingerprint,
            "encoder": None if self.encoder is None else self.encoder.details,
            "seed": self.seed,
            "held_out": self.held_out,
        }

    @classmethod
    def load(cls, folder: Path, details: JsonObject, catalog: Catalog, encoder: Encoder | None) -> Self:
        """Read what `save` wrote.

        Raises:
            DamagedError: A file is missing or cut, or of another catalogue.
            FingerprintError: Weights or codebooks are those of another TIGER.
        """
        model = TigerModel.load(folder)
        if model.fingerprint != details["model"]:
            raise FingerprintError(f"{folder} holds the weights of another TIGER; restore the folder or build it again")
        counts = load_array(folder, "counts", np.int64, (len(catalog),))
        identifiers = None if details["codebooks"] is None else SemanticIds.load(folder / "identifiers")
        if identifiers is not None and identifiers.fingerprint != details["codebooks"]:
            raise FingerprintError(f"{folder} holds the codebooks of another TIGER; restore the folder")
        named = None if details["encoder"] is None else LazyEncoder.named(details["encoder"], encoder)
        tokens = IdentifierTable.load(folder / "identifiers").matrix().astype(np.int64)
        codes = tokens - model.tokens_of(np.zeros((1, tokens.shape[1]), dtype=np.int64))
        return cls(model, codes, counts, identifiers, named, int(details["seed"]), bool(details["held_out"]))

    def describe(self) -> dict[str, Json]:
        """Tell identifiers and model."""
        shape = f"{self.codes.shape[1]} codes, of {self.model.size} each"
        return {"identifiers": shape, **{f"model {key}": value for key, value in self.model.describe().items()}}


class TIGER(Generative):
    """Write the Semantic ID of the next item with a T5 trained from scratch (Rajput et al. 2023).

    Every answer is a real, allowed item: a trie keeps the beams on the catalogue, where the paper drops invalid ids
    afterwards. Words are not read: a query with words only is answered by popularity, with a warning. Later items get
    codes from the frozen codebooks, where the recipe made them.

    Args:
        catalog: The items.
        sequences: The training events, rows of this catalogue, each user's in order.
        codes: Semantic ID of each item, shape (items, levels), such as `IdentifierTable.matrix()`.
        settings: How large the T5 is.
        training: How it learns.
        beam: Beams of an answer; raised to k by itself.
        validation: Histories and withheld next items; the epoch with the highest nDCG@10 there is kept.
        device: Where it learns and answers, such as ``"cuda"``.
        seed: Of initial weights, batches, dropout, and of the order between items nobody knows anything about.
        progress: Called after each step.
        checkpoint: A file that training resumes from if it exists, see `genrail.training.loop.run`.

    Raises:
        ShapeError: Events outside the catalogue, or another number of codes than items.

    >>> from genrail.catalog import Catalog
    >>> from genrail.evaluation import Training
    >>> from genrail.training.loop import LoopSettings
    >>> from genrail.types import Query
    >>> shop = Catalog.from_items([{"id": name, "title": name} for name in "abcd"])
    >>> events = Training(["u", "v"], np.array([0, 3, 6]), np.array([0, 1, 2, 0, 1, 2]))
    >>> small = TigerSettings(width=16, layers=1, heads=1, head_width=8, feed_forward=16, dropout=0.0)
    >>> quick = TigerTraining(LoopSettings(epochs=60, learning_rate=0.02, warm_up=5))
    >>> method = TIGER(shop, events, [[0, 0], [0, 1], [1, 0], [1, 1]], small, quick)
    >>> method.search_batch([Query(history=["a", "b"])], k=1)[0].item_ids
    ['c']
    """

    spelling: TigerSpelling

    def __init__(
        self,
        catalog: Catalog,
        sequences: FlatSequences | None,
        codes: npt.ArrayLike,
        settings: TigerSettings | None = None,
        training: TigerTraining | None = None,
        *,
        beam: int = 50,
        validation: HeldOut | None = None,
        device: str = "cpu",
        seed: int = 0,
        progress: Callable[[Progress], None] | None = None,
        checkpoint: str | Path | None = None,
    ) -> None:
        recipe = TigerRecipe(settings or TigerSettings(), training or TigerTraining(), beam)
        model = TigerModel(codes, settings, seed).to(device)
        if len(model.codes) != len(catalog):
            raise ShapeError(f"{len(model.codes)} rows of codes for {len(catalog)} items; give each item its codes")
        spelling = TigerSpelling(model, model.codes, event_counts(no_events(sequences), len(catalog)), seed=seed)
        report = _taught(spelling, sequences, recipe.training, validation, progress, checkpoint)
        self._set(catalog, spelling, recipe, report)

    def _set(self, catalog: Catalog, spelling: TigerSpelling, recipe: Recipe, report: LoopReport | None) -> None:
        table = spelling.table()
        index = live_index(catalog, table, _unheard)
        beam = BeamSettings(width=recipe.beam if isinstance(recipe, TigerRecipe) else 50)
        super().__init__(catalog, spelling, table, index, recipe, beam, report)

    @classmethod
    def of(cls, **parts: Any) -> Self:
        """Make it from its parts, trained already; see `Generative`."""
        made = cls.__new__(cls)
        Generative.__init__(made, **parts)
        return made

    @property
    def model(self) -> TigerModel:
        """Give the T5."""
        return self.spelling.model

    @cached_property
    def precedence(self) -> Integers:
        """Give each row its place by popularity."""
        return popular_first(self.spelling.counts, tie_order(len(self.catalog), self.spelling.seed))

    def find(self, requests: Sequence[Request], k: int, options: FindOptions) -> list[Found]:
        """Decode the k most probable identifiers of each history; without one, answer by popularity."""
        options.step()
        asked = [one for one in requests if one.history.size]
        known = iter(super().find(asked, k, options) if asked else ())
        return [next(known) if one.history.size else self._popular(one, k) for one in requests]

    def _popular(self, request: Request, k: int) -> Found:
        scores = self.spelling.counts.astype(np.float64)
        rows = top_rows(scores, request.allowed, k, self.precedence)
        return Found(rows, scores[rows], warnings=(NO_WORDS,) if request.text else ())

    def save(self, folder: Path) -> dict[str, Json]:
        """Write identifiers, index, counts and weights."""
        return {**super().save(folder), "recipe": self.recipe.to_dict()}

    @classmethod
    def load(cls, folder: Path, details: JsonObject, catalog: Catalog, encoder: Encoder | None = None) -> Self:
        """Read what `save` wrote.

        Raises:
            DamagedError: A file is missing or cut, or of another catalogue.
            FingerprintError: The parts do not belong together.
            FormatError: Of an earlier version, whose TIGER gave new items no codes.
        """
        if "identifiers" not in details:
            raise FormatError(
                f"{folder} holds a TIGER of an earlier version; build it again: genrail build --recipe tiger"
            )
        recipe = TigerRecipe.from_dict(details["recipe"])
        return cls.opened(folder, details, catalog, encoder, TigerSpelling, recipe)


@dataclass(frozen=True)
class TigerRecipe(Recipe):
    """Say how large TIGER is, how it learns, and what its identifiers are.

    Args:
        model: How large the T5 is.
        training: How it learns.
        beam: Beams of an answer; raised to k by itself. 50 as reproductions of the paper.
        levels: Codes of an identifier, without the one that tells duplicates apart; 3 as in the paper.
        codes: Different codes of a level; None for 256 as in the paper, at most a quarter of the items.
        identifiers: How items become codes, as for the native finder: `kmeans`, `rqvae` (the paper's), `pq`, `lsh` or
            `attributes`.
    """

    model: TigerSettings = field(default_factory=TigerSettings)
    training: TigerTraining = field(default_factory=TigerTraining)
    beam: int = 50
    levels: int = 3
    codes: int | None = None
    identifiers: str = SCHEME

    kind: ClassVar[str] = "tiger"
    finder: ClassVar[type[Finder]] = TIGER
    needs_interactions: ClassVar[bool] = True
    learns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if isinstance(self.model, dict):  # from a manifest
            object.__setattr__(self, "model", TigerSettings(**self.model))
        if isinstance(self.training, dict):
            values: JsonObject = dict(self.training)
            object.__setattr__(self, "training", TigerTraining(**{**values, "loop": LoopSettings(**values["loop"])}))

    def build(self, data: Data, progress: seam.Progress) -> TIGER:
        """Turn items into codes, then train on the interactions."""
        require_torch()
        catalog = data.catalog
        if not catalog.live.any():
            raise CatalogError("the catalogue has no items; read one with at least one row")
        ids, table = identified(
            self.identifiers, catalog, lambda: data.text_vectors(progress), self.levels, self.codes, data.seed
        )
        taught = data.without_validation
        model = TigerModel(table.matrix(), self.model, data.seed, size=max(table.vocab_size, ids.codes))
        counts = event_counts(no_events(taught.sequences), len(catalog))
        encoder = None if reads_items(ids) else data.encoder
        spelling = TigerSpelling(model, model.codes, counts, ids, encoder, data.seed, data.hold_out)
        report = self._taught(spelling, taught, progress)
        made = TIGER.__new__(TIGER)
        made._set(catalog, spelling, self, report)
        return made

    def train(self, finder: Finder, data: Data, progress: seam.Progress) -> TIGER:
        """Train a copy of the model further, on other interactions."""
        assert isinstance(finder, TIGER)
        taught = data.without_validation
        if taught.sequences is None:
            raise SettingsError("TIGER learns from histories; give interactions")
        before = finder.spelling
        model = copy.deepcopy(before.model)
        model.codes, model.tokens = before.codes, model.tokens_of(before.codes)
        vars(model).pop("fingerprint", None)
        counts = event_counts(taught.sequences, len(data.catalog))
        spelling = replace(before, model=model, counts=counts, held_out=before.held_out and data.hold_out)
        return finder.replaced(spelling=spelling, report=self._taught(spelling, taught, progress))

    def _taught(self, spelling: TigerSpelling, taught: Data, progress: seam.Progress) -> LoopReport | None:
        def told(now: Progress) -> None:
            progress("training TIGER", now.epoch, now.epochs)

        return _taught(spelling, taught.sequences, self.training, taught.held_back, told)


def _taught(
    spelling: TigerSpelling,
    sequences: FlatSequences | None,
    training: TigerTraining,
    validation: HeldOut | None,
    progress: Callable[[Progress], None] | None,
    checkpoint: str | Path | None = None,
) -> LoopReport | None:
    """Teach the model, in place."""
    known = no_events(sequences)
    events = (np.asarray(known.rows, dtype=np.int64), np.asarray(known.offsets, dtype=np.int64))
    return train_tiger(spelling.model, events, training, _cases(validation), spelling.seed, progress, checkpoint)


def _cases(validation: HeldOut | None) -> list[tuple[list[int], int]]:
    """List histories with the item that comes next."""
    if validation is None:
        return []
    return [(validation.history(user).tolist(), int(validation.targets[user])) for user in range(len(validation))]


def _unheard(stage: str, done: int, total: int) -> None:
    """Hear nothing."""
