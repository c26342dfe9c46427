"""From what a user names, a recipe with its settings, or synonyms, to the finder that has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from genrail.errors import SettingsError
from genrail.finding import Finder, Recipe
from genrail.finding.finder import with_settings
from genrail.finding.registry import kinds, recipe_named, recipe_type
from genrail.types import JsonObject

if TYPE_CHECKING:
    from genrail.models.language_model import AnyModel

__all__ = ["recipe_of", "synonyms_of", "with_synonyms"]


def recipe_of(recipe: Recipe | str | None, model: AnyModel | str | None, settings: Mapping[str, object]) -> Recipe:
    """Find the recipe that a user means.

    Raises:
        SettingsError: No such recipe or setting.
    """
    if model is not None:
        lanes = cast("Sequence[str] | None", settings.get("lanes"))
        chosen = ("fused" if lanes else "titles") if recipe is None else recipe
        taking = [name for name in (lanes if chosen == "fused" and lanes else [chosen]) if _takes_language_model(name)]
        if not taking:
            raise SettingsError(
                "a language model writes titles, codes or n-grams (recipe='titles', 'codes' or 'seal', or one of them "
                f"among the lanes); with {lanes or chosen!r} leave model out"
            )
        if chosen in taking:
            return recipe_named(str(chosen), {"model": model, **settings})
        given = cast("Mapping[str, JsonObject]", settings.get("settings", {}))
        of_lanes: JsonObject = {**given, **{str(one): {"model": model, **given.get(str(one), {})} for one in taking}}
        return recipe_named("fused", {**settings, "settings": of_lanes})
    if recipe is None or isinstance(recipe, str):
        return recipe_named(recipe or "fused", settings)
    return with_settings(recipe, settings)


def _takes_language_model(kind: object) -> bool:
    return isinstance(kind, str) and kind in kinds() and recipe_type(kind).takes_language_model


def with_synonyms(finder: Finder, lines: Sequence[str]) -> Finder:
    """Let each part of a finder that reads synonyms read these, and no others.

    Raises:
        SettingsError: No part reads any.
    """
    readers = list(_reading_synonyms(finder))
    if not readers:
        raise SettingsError(
            f"{finder.name} reads no synonyms; they are for lexical finders, such as bm25, alone or among the lanes"
        )
    for part in readers:
        retuned = part.retuned(replace(part.recipe, synonyms=tuple(lines)))  # type: ignore[type-var]
        assert retuned is not None  # no index depends on synonyms
        finder = finder.with_part(part, retuned)
    return finder


def synonyms_of(finder: Finder) -> tuple[str, ...]:
    """Give the synonyms that a finder reads, as lines."""
    lines = (getattr(part.recipe, "synonyms") for part in _reading_synonyms(finder))  # noqa: B009
    return next(lines, ())


def _reading_synonyms(finder: Finder) -> list[Finder]:
    """List the parts, or the whole, whose recipe has synonyms."""
    own = [finder] if hasattr(finder.recipe, "synonyms") else []
    return own + [found for part in finder.parts.values() for found in _reading_synonyms(part)]
