"""A finder as a folder and a few plain values: the same for an engine's own finder and for the parts of one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from genrail.finding.finder import Finder, Json
from genrail.finding.registry import recipe_type
from genrail.types import JsonObject

if TYPE_CHECKING:
    from genrail.catalog import Catalog
    from genrail.models.text_encoder import Encoder

__all__ = ["open_finder", "save_finder"]


def save_finder(finder: Finder, folder: Path) -> dict[str, Json]:
    """Write a finder into an existing, empty folder.

    Returns:
        What `open_finder` needs: the kind, the recipe's settings, and the finder's own details.
    """
    details = {"kind": finder.recipe.kind, "recipe": finder.recipe.to_dict(), **finder.save(folder)}
    plain: dict[str, Json] = json.loads(json.dumps(details))  # tuples become the lists that a manifest gives back
    return plain


def open_finder(folder: Path, details: JsonObject, catalog: Catalog, encoder: Encoder | None = None) -> Finder:
    """Read what `save_finder` wrote.

    Raises:
        FormatError: A kind that is not installed here.
        StorageError: The parts do not belong together.
    """
    return recipe_type(str(details["kind"])).finder.load(folder, details, catalog, encoder)
