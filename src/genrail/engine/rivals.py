"""What an engine has to beat: its lanes, each by itself, and every classical method that its catalogue allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from genrail.engine.engine import Engine
from genrail.errors import SettingsError
from genrail.evaluation.building import BuildCost, Candidate, build_all, folder_bytes
from genrail.evaluation.comparison import distinct_names
from genrail.finding import Data, Edition, Finder, Recipe, recipe_named, save_finder
from genrail.finding.registry import kinds_from_outside
from genrail.models.encoders import LazyEncoder
from genrail.types import Progress, Query, Ranking, Retriever, silent

if TYPE_CHECKING:
    from genrail.catalog import Catalog

__all__ = ["Lane", "Rivals", "beside", "built_rivals", "lanes_of"]

FOR_WORDS = ("bm25", "tfidf", "dense", "late-interaction", "popularity")
FOR_HISTORIES = ("popularity", "item-knn", "cooccurrence", "tfidf", "dense")
# Anserini's, for passages
OTHER_SETTINGS: dict[str, tuple[dict[str, object], ...]] = {"bm25": ({"k1": 0.9, "b": 0.4},)}
LATE_ITEMS = 20_000  # late interaction reads every token of the catalogue for each query


@dataclass(frozen=True, eq=False)
class Lane:
    """Ask an engine with one of its lanes alone (a `Retriever`).

    Args:
        engine: Made of lanes.
        lane: The name of one.
    """

    engine: Engine
    lane: str

    @property
    def finder(self) -> Finder:
        """Give the lane itself."""
        return self.engine.edition.finder.parts[self.lane]

    @property
    def name(self) -> str:
        """Name the method, as it is called where it stands alone."""
        return self.finder.name

    @property
    def catalog(self) -> Catalog:
        """Give the items."""
        return self.engine.catalog

    def search_batch(self, queries: Sequence[Query], k: int = 10) -> list[Ranking]:
        """Rank the k best items for each query."""
        return self.engine.search_batch(queries, k, lanes=[self.lane])

    def save(self, folder: Path) -> None:
        """Write the lane into a new folder, such as to measure it."""
        folder.mkdir(parents=True)
        save_finder(self.finder, folder)


@dataclass(frozen=True)
class Rivals:
    """Hold the methods to compare an engine with.

    Args:
        methods: By name.
        costs: What building each took, by name; of lanes their size alone.
        failures: Message of each that could not be built.
        lanes: The methods that are lanes: the name of the engine and that of the lane.
        alternatives: Methods that are another one with other settings: its name, and what to show for the first.
    """

    methods: Mapping[str, Retriever]
    costs: Mapping[str, BuildCost]
    failures: Mapping[str, str]
    lanes: Mapping[str, tuple[str, str]]
    alternatives: Mapping[str, str]

    @classmethod
    def of(cls, methods: Sequence[Retriever]) -> Rivals:
        """Take methods that are there already; two of one name are numbered."""
        return cls(dict(zip(distinct_names(methods), methods, strict=True)), {}, {}, {}, {})


def lanes_of(engine: Engine, words: bool) -> dict[str, Lane]:
    """List the lanes of an engine that read words, or histories, by the name of the method.

    Lanes that list exact matches alone are left out: they answer few questions, and those rightly.
    """
    found: dict[str, Lane] = {}
    parts = engine.edition.finder.parts
    for name, part in parts.items() if len(parts) > 1 else ():  # a single part is wrapped, by a reranker perhaps
        reads = part.reads_words if words else part.reads_histories
        if reads and not part.exact_only:
            lane = Lane(engine, name)
            found[lane.name if lane.name not in found else f"{lane.name} ({name})"] = lane
    return found


def beside(engine: Engine, words: bool) -> list[Retriever]:
    """Give what an engine is shown beside: its lanes; of one without lanes BM25, and Dense where it reads texts."""
    lanes = list(lanes_of(engine, words).values())
    if lanes:
        return [*lanes]
    data = Data(engine.catalog, text_encoder=engine.encoder)
    recipes = [_buildable(kind, data) for kind in ("bm25", "dense") if kind != engine.edition.finder.recipe.kind]
    return [Engine(Edition(data.catalog, one.build(data, silent))) for one in recipes if one is not None]


def built_rivals(engine: Engine, data: Data, words: bool, progress: Progress) -> Rivals:
    """Build every classical method that the data allows and that the engine does not have as a lane.

    Kinds that other packages or the caller registered are built too, unless they have to be trained first. A method
    that cannot be built is reported; the others go on.

    Args:
        engine: Whose lanes are methods as well.
        data: Its catalogue, encoder and perhaps interactions.
        words: Whether words are asked, or histories.
        progress: Called with (stage, done, total).
    """
    lanes = lanes_of(engine, words)
    present = {lane.finder.recipe.kind: name for name, lane in lanes.items()}
    candidates, alternatives = _candidates(engine, data, words, present, progress)
    built = build_all(candidates, progress)
    costs = {name: BuildCost(None, folder_bytes(lane), None) for name, lane in lanes.items()}
    return Rivals(
        {**lanes, **built.retrievers},
        {**costs, **built.costs},
        built.failures,
        {name: (engine.name, lane.lane) for name, lane in lanes.items()},
        alternatives,
    )


def _candidates(
    engine: Engine, data: Data, words: bool, present: Mapping[str, str], progress: Progress
) -> tuple[list[Candidate], dict[str, str]]:
    candidates: list[Candidate] = []
    alternatives: dict[str, str] = {}
    own = engine.edition.finder.recipe.kind
    for kind in (*(FOR_WORDS if words else FOR_HISTORIES), *kinds_from_outside()):
        recipe = _buildable(kind, data)
        if recipe is None or kind == own:
            continue
        name = present.get(kind) or str(getattr(recipe.finder, "name", kind))
        if kind not in present:
            candidates.append(_candidate(name, recipe, data, progress))
        for settings in OTHER_SETTINGS.get(kind, ()) if words else ():
            shown = ", ".join(f"{setting}={value}" for setting, value in settings.items())
            alternatives[f"{name} ({shown})"] = name
            candidates.append(_candidate(f"{name} ({shown})", recipe_named(kind, settings), data, progress))
    return candidates, alternatives


def _candidate(name: str, recipe: Recipe, data: Data, progress: Progress) -> Candidate:
    return Candidate(name, lambda: Engine(Edition(data.catalog, recipe.build(data, progress))))


def _buildable(kind: str, data: Data) -> Recipe | None:
    """Make the recipe of a kind, if it can be built from the data without training."""
    try:
        recipe = recipe_named(kind)
    except (SettingsError, TypeError):  # a kind that needs settings
        return None
    if recipe.learns or (data.sequences is None and recipe.needs_interactions):
        return None
    if kind in ("dense", "late-interaction") and data.text_encoder is None:
        return None
    if kind == "late-interaction" and (len(data.catalog) > LATE_ITEMS or not _tells_tokens(data.encoder)):
        return None
    return recipe


def _tells_tokens(encoder: LazyEncoder) -> bool:
    """Tell whether an encoder has vectors of tokens; those of a loaded engine stand for it until words arrive."""
    from genrail.models.token_vectors import TokenEncoder, token_encoder

    return isinstance(token_encoder(encoder.loaded), TokenEncoder) or hasattr(encoder.loaded, "encode_tokens")
