"""Take a table in whatever form somebody holds it: Polars, pandas, Arrow, a Hugging Face dataset, dictionaries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from genrail.errors import CatalogError, MissingPackageError

__all__ = ["table_given"]

FORMS = (
    "a path, a list of dictionaries, a dictionary of columns, a Polars, pandas or Arrow table, or one split of a "
    "Hugging Face dataset"
)


def table_given(given: object, what: str) -> pl.DataFrame | list[Any]:
    """Turn what was given into a Polars table, or a list of records that are still to be checked.

    Args:
        given: The table; nothing of it is changed.
        what: Names it in messages, such as "the catalogue".

    Raises:
        CatalogError: It is none of the forms.

    >>> table_given({"id": ["a", "b"], "title": ["Boot", "Clog"]}, "the catalogue").shape
    (2, 2)
    """
    if isinstance(given, pl.DataFrame):
        return given
    if isinstance(given, pl.LazyFrame):
        return given.collect()
    if isinstance(given, Mapping):
        return _columns(given, what)
    package = type(given).__module__.split(".")[0]
    if package == "pandas" and hasattr(given, "columns"):
        try:
            return pl.from_pandas(given)
        except ImportError:
            raise MissingPackageError("pyarrow", "arrow", f"{what}: reading a pandas table") from None
    if package == "datasets" and hasattr(given, "with_format"):
        given = given.with_format("arrow")[:]
    if hasattr(given, "__arrow_c_stream__"):
        return pl.DataFrame(given)
    if isinstance(given, Iterable) and not isinstance(given, str | bytes):
        return list(given)
    raise CatalogError(f"{what} is of type {type(given).__name__}; give {FORMS}")


def _columns(given: Mapping[object, object], what: str) -> pl.DataFrame:
    splits = [str(name) for name, value in given.items() if hasattr(value, "column_names")]
    if splits:
        raise CatalogError(f'{what} has the splits {", ".join(splits)}; give one of them, such as data["{splits[0]}"]')
    sizes = {name: len(value) for name, value in given.items() if isinstance(value, list | tuple | pl.Series)}
    if len(sizes) < len(given) or len(set(sizes.values())) != 1:
        raise CatalogError(
            f"{what} is a dictionary, and its values are not columns of one length ({str(sizes)[:80]}); give {FORMS}"
        )
    return pl.DataFrame({str(name): value for name, value in given.items()}, strict=False)
