"""What a catalogue has, in words that a prompt can hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from genrail.catalog import Catalog
from genrail.catalog.values import written
from genrail.errors import CatalogError

__all__ = ["catalog_facts", "check_column"]

MOST_VALUES = 12  # values named of each column


def catalog_facts(catalog: Catalog, columns: Sequence[str]) -> str:
    """Write what a catalogue has: the most frequent values of some columns, one line each.

    Raises:
        CatalogError: No such column.

    >>> shop = Catalog.from_items([{"id": str(n), "title": "boot", "brand": "Nike" if n else "Ecco"} for n in range(3)])
    >>> catalog_facts(shop, ["brand"])
    'brand: Nike, Ecco'
    """
    lines = []
    for name in columns:
        check_column(catalog, name)
        values = [value for value in catalog.frame.get_column(name).to_list() if value is not None]
        parts = [part.strip() for value in values for part in written(value).split("|")]
        best = [value for value, _ in Counter(part for part in parts if part).most_common(MOST_VALUES)]
        lines.append(f"{name}: {', '.join(best)}")
    return "\n".join(lines)


def check_column(catalog: Catalog, name: str) -> None:
    """Refuse a column that a catalogue does not have.

    Raises:
        CatalogError: There is none of this name.
    """
    if name not in catalog.frame.columns:
        raise CatalogError(f'no column is named "{name}"; the catalogue has {", ".join(catalog.frame.columns)}')
