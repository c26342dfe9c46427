"""Tables from Parquet, decoded in batches and counted."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

import polars as pl

from genrail.catalog.sources import Limits, check_unfolded
from genrail.catalog.tables import Table, check_rows
from genrail.errors import CatalogError, MissingPackageError

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

__all__ = ["read_parquet"]

_ROWS = 1_024  # decoded at once, before they are counted: 1 GiB if every value were as long as allowed


def read_parquet(path: Path, limits: Limits) -> Table:
    """Decode in batches and count, because the sizes that a Parquet file states may be false.

    Columns of few distinct values are decoded as dictionaries first, so that one long value repeated a million times is
    counted before it is written out.

    Raises:
        CatalogError: It is not Parquet, or over a limit.
        MissingPackageError: pyarrow is not installed.
    """
    if find_spec("pyarrow") is None:
        raise MissingPackageError("pyarrow", "arrow", f"{path.name}: reading Parquet")
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as head:
            schema, repetitive = head.schema_arrow, _repetitive(head)
            check_rows(path.name, head.metadata.num_rows, limits)
        if len(schema.names) > limits.columns or len(set(schema.names)) < len(schema.names):
            raise CatalogError(f"{path.name} has two columns of one name, or more than {limits.columns:,} columns")
        with parquet.ParquetFile(path, read_dictionary=repetitive) as file:
            decoded, batches = 0, []
            for batch in file.iter_batches(batch_size=_ROWS, use_threads=False):
                decoded += sum(_decoded_bytes(column) for column in batch.columns)
                check_unfolded(path.name, decoded, max(path.stat().st_size, 1), limits)
                batches.append(batch.cast(schema))
        frame = cast(pl.DataFrame, pl.from_arrow(pa.Table.from_batches(batches, schema)))
    except (pa.ArrowException, pl.exceptions.PolarsError, OSError) as error:
        raise CatalogError(
            f"{path.name}: cannot be read as Parquet ({error}); write it again, or give format="
        ) from None
    return Table.of(frame, path.name)


def _repetitive(file: ParquetFile) -> list[str]:
    """Name the columns of strings or bytes whose values are mostly numbers into a dictionary: under 8 bytes each.

    The others must not be read as dictionaries: Arrow would copy all their values so far into every batch.
    """
    from pyarrow import types

    names = []
    for number, field in enumerate(file.schema_arrow if file.metadata.num_columns == len(file.schema_arrow) else ()):
        kind = field.type
        if types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind) or types.is_large_binary(kind):
            chunks = [file.metadata.row_group(group).column(number) for group in range(file.metadata.num_row_groups)]
            size = sum(chunk.total_uncompressed_size for chunk in chunks)
            if size < 8 * sum(chunk.num_values for chunk in chunks):
                names.append(field.name)
    return names


def _decoded_bytes(column: pa.Array) -> int:
    import pyarrow as pa
    from pyarrow import compute

    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes)
    lengths = compute.binary_length(column.dictionary)
    return int(compute.sum(lengths.take(column.indices)).as_py() or 0) + 4 * len(column)
