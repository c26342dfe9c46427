"""Kinds of finders by name: those of this package, of others (entry points), and those registered by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from genrail.errors import FormatError, SettingsError
from genrail.kinds import Kinds
from genrail.types import JsonObject

if TYPE_CHECKING:
    from pathlib import Path

    from genrail.finding.finder import Recipe, Scorer

__all__ = [
    "kinds",
    "kinds_from_outside",
    "open_scorer",
    "recipe_named",
    "recipe_type",
    "register",
    "register_scorer",
    "scorer_named",
    "scorers",
]

_BUILT_IN = {
    "fused": "genrail.finders.fusing:FusedRecipe",
    "native": "genrail.finders.native:NativeRecipe",
    "titles": "genrail.finders.titles:TitlesRecipe",
    "codes": "genrail.finders.codes:CodesRecipe",
    "in-prompt": "genrail.finders.in_prompt:InPromptRecipe",
    "seal": "genrail.finders.seal:SealRecipe",
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

_SCORERS_BUILT_IN = {
    "cross-encoder": "genrail.finders.scorers:CrossEncoder",
    "query-likelihood": "genrail.finders.scorers:QueryLikelihood",
    "relevance": "genrail.finders.scorers:Relevance",
    "title-likelihood": "genrail.finders.scorers:TitleLikelihood",
}

_FINDERS: Kinds[Recipe] = Kinds("finder", "genrail.finders", _BUILT_IN)
_SCORERS: Kinds[Scorer] = Kinds("scorer", "genrail.scorers", _SCORERS_BUILT_IN)


def register(recipe: type[Recipe]) -> type[Recipe]:
    """Make a kind of finder known by its name in this process; usable as a decorator.

    A package announces its kinds for every process by an entry point instead::

        [project.entry-points."genrail.finders"]
        "my-kind" = "my_package.my_module:MyRecipe"

    Raises:
        SettingsError: Another kind has this name.
    """
    _FINDERS.add(recipe.kind, recipe)
    return recipe


def kinds() -> list[str]:
    """List the kinds that can be built by name."""
    return _FINDERS.names


def kinds_from_outside() -> list[str]:
    """List the kinds that other packages or the caller brought."""
    return _FINDERS.from_outside


def recipe_type(kind: str) -> type[Recipe]:
    """Find the recipe of a kind.

    Raises:
        FormatError: No such kind.
    """
    if (found := _FINDERS.find(kind)) is not None:
        return found
    raise FormatError(f"no finder is of the kind {kind!r}; this installation has {', '.join(kinds())}")


def recipe_named(kind: str, settings: Mapping[str, object] | None = None) -> Recipe:
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
    _SCORERS.add(scorer.kind, scorer)
    return scorer


def scorers() -> list[str]:
    """List the kinds of scorers that can be made by name."""
    return _SCORERS.names


def _scorer_type(kind: str) -> type[Scorer]:
    if (found := _SCORERS.find(kind)) is not None:
        return found
    raise FormatError(f"no scorer is of the kind {kind!r}; this installation has {', '.join(scorers()) or 'none'}")


def scorer_named(kind: str, settings: Mapping[str, object] | None = None) -> Scorer:
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


def open_scorer(folder: Path, details: JsonObject) -> Scorer:
    """Read a scorer that was saved.

    Raises:
        FormatError: A kind that is not installed here.
    """
    return _scorer_type(str(details["kind"])).load(folder, details)
