"""Kinds of finders by name: those of this package, of others (entry points), and those registered by hand."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from genrail.errors import FormatError, SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    from genrail.finding.finder import Recipe, Scorer

__all__ = [
    "ENTRY_POINTS",
    "kinds",
    "open_scorer",
    "recipe_named",
    "recipe_type",
    "register",
    "register_scorer",
    "scorer_named",
    "scorers",
]

ENTRY_POINTS = "genrail.finders"  # group of an outside package's entry points: kind = "module:Recipe"
SCORER_ENTRY_POINTS = "genrail.scorers"  # likewise: kind = "module:Scorer"

BUILT_IN = {
    "fused": "genrail.finders.fusing:FusedRecipe",
    "native": "genrail.finders.native:NativeRecipe",
    "titles": "genrail.finders.titles:TitlesRecipe",
    "codes": "genrail.finders.codes:CodesRecipe",
    "tiger": "genrail.finders.tiger:TigerRecipe",
    "bm25": "genrail.finders.bm25:BM25Recipe",
    "tfidf": "genrail.finders.tfidf:TFIDFRecipe",
    "dense": "genrail.finders.dense:DenseRecipe",
    "two-tower": "genrail.finders.two_tower:TwoTowerRecipe",
    "late-interaction": "genrail.finders.late_interaction:LateInteractionRecipe",
    "cooccurrence": "genrail.finders.cooccurrence:CooccurrenceRecipe",
    "item-knn": "genrail.finders.item_knn:ItemKNNRecipe",
    "popularity": "genrail.finders.popularity:PopularityRecipe",
    "sasrec": "genrail.finders.sasrec:SASRecRecipe",
    "lookup": "genrail.finders.lookup:LookupRecipe",
    "reranked": "genrail.finders.reranked:RerankedRecipe",
}

SCORERS = {
    "cross-encoder": "genrail.finders.scorers:CrossEncoder",
    "query-likelihood": "genrail.finders.scorers:QueryLikelihood",
    "relevance": "genrail.finders.scorers:Relevance",
    "title-likelihood": "genrail.finders.scorers:TitleLikelihood",
}

_REGISTERED: dict[str, type[Recipe]] = {}
_REGISTERED_SCORERS: dict[str, type[Scorer]] = {}


def register(recipe: type[Recipe]) -> type[Recipe]:
    """Make a kind of finder known by its name in this process; usable as a decorator.

    A package announces its kinds for every process by an entry point instead::

        [project.entry-points."genrail.finders"]
        "my-kind" = "my_package.my_module:MyRecipe"

    Raises:
        SettingsError: Another kind has this name.
    """
    if recipe.kind in BUILT_IN or _REGISTERED.get(recipe.kind, recipe).__qualname__ != recipe.__qualname__:
        raise SettingsError(f"a finder of the kind {recipe.kind!r} exists already; choose another name")
    _REGISTERED[recipe.kind] = recipe
    return recipe


def kinds() -> list[str]:
    """List the kinds that can be built by name."""
    return sorted({*BUILT_IN, *_REGISTERED, *(point.name for point in entry_points(group=ENTRY_POINTS))})


def recipe_type(kind: str) -> type[Recipe]:
    """Find the recipe of a kind.

    Raises:
        FormatError: No such kind.
    """
    if kind in _REGISTERED:
        return _REGISTERED[kind]
    if kind in BUILT_IN:
        module, name = BUILT_IN[kind].split(":")
        found: type[Recipe] = getattr(import_module(module), name)
        return found
    for point in entry_points(group=ENTRY_POINTS, name=kind):
        loaded: type[Recipe] = point.load()
        return loaded
    raise FormatError(f"no finder is of the kind {kind!r}; this installation has {', '.join(kinds())}")


def recipe_named(kind: str, settings: Mapping[str, Any] | None = None) -> Recipe:
    """Make the recipe of a kind with some settings.

    Raises:
        SettingsError: No such kind, or no such setting.
    """
    try:
        found = recipe_type(kind)
    except FormatError as error:
        raise SettingsError(str(error)) from None
    return found.from_dict(settings or {})


def register_scorer(scorer: type[Scorer]) -> type[Scorer]:
    """Make a kind of scorer known by its name in this process; usable as a decorator.

    A package announces its scorers by entry points of the group ``genrail.scorers``, as `register` says of finders.

    Raises:
        SettingsError: Another kind has this name.
    """
    if scorer.kind in SCORERS or _REGISTERED_SCORERS.get(scorer.kind, scorer).__qualname__ != scorer.__qualname__:
        raise SettingsError(f"a scorer of the kind {scorer.kind!r} exists already; choose another name")
    _REGISTERED_SCORERS[scorer.kind] = scorer
    return scorer


def scorers() -> list[str]:
    """List the kinds of scorers that can be made by name."""
    return sorted({*SCORERS, *_REGISTERED_SCORERS, *(one.name for one in entry_points(group=SCORER_ENTRY_POINTS))})


def _scorer_type(kind: str) -> type[Scorer]:
    if kind in _REGISTERED_SCORERS:
        return _REGISTERED_SCORERS[kind]
    if kind in SCORERS:
        module, name = SCORERS[kind].split(":")
        found: type[Scorer] = getattr(import_module(module), name)
        return found
    for point in entry_points(group=SCORER_ENTRY_POINTS, name=kind):
        loaded: type[Scorer] = point.load()
        return loaded
    raise FormatError(f"no scorer is of the kind {kind!r}; this installation has {', '.join(scorers()) or 'none'}")


def scorer_named(kind: str, settings: Mapping[str, Any] | None = None) -> Scorer:
    """Make a scorer of a kind with some settings.

    Raises:
        SettingsError: No such kind.
    """
    try:
        found = _scorer_type(kind)
    except FormatError as error:
        raise SettingsError(str(error)) from None
    try:
        return found(**(settings or {}))
    except TypeError as error:
        raise SettingsError(f"the scorer {kind} cannot be made so: {error}") from None


def open_scorer(folder: Path, details: Mapping[str, Any]) -> Scorer:
    """Read a scorer that was saved.

    Raises:
        FormatError: A kind that is not installed here.
    """
    return _scorer_type(str(details["kind"])).load(folder, details)
