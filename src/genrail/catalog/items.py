"""The catalogue: items as rows of one Arrow table, immutable, with append-only row numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl

from genrail.catalog.columns import Columns, Typing, canonical, frame_and_mixed, ids_of, nearest
from genrail.catalog.given import table_given
from genrail.catalog.markup import without_markup
from genrail.catalog.readers import Limits, Table, read_table
from genrail.catalog.row_of_id import RowOfId
from genrail.catalog.validation import Report, validate
from genrail.catalog.values import TAGS, kind_of, written
from genrail.errors import CatalogError, DamagedError, FormatError, QueryError
from genrail.rng import generator
from genrail.showing import html_table

if TYPE_CHECKING:
    from genrail.catalog.filter_grammar import Node

__all__ = ["Catalog"]

_LIVE = "genrail:live"  # reserved column of the saved table
_FORMAT = 2  # 1 had no dates and times, and lists as strings joined by |
_FINGERPRINTED = 1  # the format that the fingerprint names: it must not change for a catalogue that stays the same
_CHUNKS = 32  # additions after which the table is copied into one piece
_NAMED = 5  # ids that one message names

Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class Catalog:
    """Hold the items: ids, titles and attributes, as rows of one table.

    A catalogue is a value: `add`, `remove` and `update` return a new one and share what did not change. Row numbers
    are append-only: an item keeps its row for ever, a removed item leaves its row behind (`live` is False there), and
    an id that comes back gets a new row. So `len(catalog)` counts all rows ever, and `catalog.live.sum()` the items.

    Make one with `Catalog.read`, `Catalog.from_items` or `Catalog.from_frame`.

    >>> boot = {"sku": "a", "name": "Trail boot", "price": 89}
    >>> shop = Catalog.from_items([boot, {"sku": "b", "name": "Sandal", "price": 25}])
    >>> shop.columns
    Columns(item_id='sku', title='name', text=())
    >>> shop.where("price < 50").tolist()
    [False, True]
    >>> later = shop.remove(["b"]).add([{"sku": "c", "name": "Clog", "price": 30}])
    >>> later.item_ids, later.live.tolist(), later.where("price < 50").tolist()
    (['a', 'b', 'c'], [True, False, True], [False, False, True])
    """

    def __init__(
        self, frame: pl.DataFrame, live: Mask, columns: Columns, report: Report, lookup: RowOfId | None = None
    ) -> None:
        """Wrap checked parts; use `read`, `from_items`, `from_frame` or `load`, which check them."""
        self._frame = frame
        self._live = live
        self._live.setflags(write=False)
        self._columns = columns
        self._report = report
        self._lookup_or_none = lookup

    # --- making one -------------------------------------------------------------------------------------------------

    @classmethod
    def of(
        cls,
        given: object,
        *,
        item_id: str | None = None,
        title: str | None = None,
        text: str | Sequence[str] | None = None,
    ) -> Catalog:
        """Take a catalogue in whatever form somebody holds it.

        Args:
            given: A path (see `read`), a list of dictionaries, a dictionary of columns, a Polars, pandas or Arrow
                table, one split of a Hugging Face dataset, or a catalogue, which is given back.
            item_id, title, text: See `read`.

        Raises:
            CatalogError: None of these, or as `read`.
        """
        if isinstance(given, Catalog):
            if not (item_id is None and title is None and text is None):
                raise CatalogError("this is a catalogue whose columns are chosen; leave item_id, title and text out")
            return given
        if isinstance(given, str | Path):
            return cls.read(given, item_id=item_id, title=title, text=text)
        table = table_given(given, "the catalogue")
        make = cls.from_frame if isinstance(table, pl.DataFrame) else cls.from_items
        return make(table, item_id=item_id, title=title, text=text)  # type: ignore[arg-type]

    @classmethod
    def read(
        cls,
        path: str | Path,
        *,
        item_id: str | None = None,
        title: str | None = None,
        text: str | Sequence[str] | None = None,
        format: str | None = None,
        encoding: str | None = None,
        limits: Limits | None = None,
        allow_large: bool = False,
    ) -> Catalog:
        """Read a catalogue from CSV, TSV, text feeds, JSON, Parquet, RecBole `.item` or a BEIR folder.

        Files may be packed (.gz, .zst, .zip). Column names and types are guessed; `columns` and `describe()` show the
        guess, the arguments overrule it. `report` accounts for every row.

        Args:
            path: The file, a BEIR folder, a folder or pattern (``parts/*.csv``) of files, ``-`` for standard input; or
                `irds:` with an id of ir_datasets, such as `irds:beir/scifact`.
            item_id: Column of the ids.
            title: Column of the titles.
            text: Further columns that a text encoder reads; by default all that hold words.
            format: `csv`, `tsv`, `jsonl`, `json`, `parquet`, `recbole` or `beir`; by default told by the name.
            encoding: Of a text file; by default what a byte order mark says, or UTF-8.
            limits: What the file may unfold to.
            allow_large: Lift the limits on rows, decoded bytes and compression ratio.

        Raises:
            CatalogError: No such file, nothing in it, a column missing, ids missing or twice, damaged, or over a limit.

        Cost: four seconds of one core and 1 GB for a million items of 260 bytes (JSON lines: eight seconds).
        """
        limits = limits or Limits()
        table = read_table(path, format=format, encoding=encoding, limits=limits, allow_large=allow_large)
        return cls._from_table(table, item_id, title, text, limits)

    @classmethod
    def from_frame(
        cls,
        frame: pl.DataFrame,
        *,
        item_id: str | None = None,
        title: str | None = None,
        text: str | Sequence[str] | None = None,
        limits: Limits | None = None,
    ) -> Catalog:
        """Make a catalogue from a Polars table; see `read` for the arguments."""
        return cls._from_table(Table.of(frame, "the table"), item_id, title, text, limits or Limits())

    @classmethod
    def from_items(
        cls,
        items: Sequence[Mapping[str, object]],
        *,
        item_id: str | None = None,
        title: str | None = None,
        text: str | Sequence[str] | None = None,
        limits: Limits | None = None,
    ) -> Catalog:
        """Make a catalogue from dictionaries; see `read` for the arguments."""
        return cls._from_table(_table_of(items, "the items"), item_id, title, text, limits or Limits())

    @classmethod
    def _from_table(
        cls,
        table: Table,
        item_id: str | None,
        title: str | None,
        text: str | Sequence[str] | None,
        limits: Limits,
        schema: Mapping[str, pl.DataType] | None = None,
    ) -> Catalog:
        if _LIVE in table.frame.columns:
            raise CatalogError(f'{table.source}: the column name "{_LIVE}" is reserved; rename it')
        frame, columns, report = validate(table, item_id, title, text, limits, schema)
        return cls(frame, np.ones(len(frame), dtype=bool), columns, report)

    # --- what is in it ----------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._frame)

    def __contains__(self, item_id: object) -> bool:
        return isinstance(item_id, str) and self._row_or_none(item_id) >= 0

    def __repr__(self) -> str:
        names = f"id={self.columns.item_id!r}, title={self.columns.title!r}"
        return f"Catalog({int(self._live.sum()):,} items, {len(self):,} rows, {names})"

    def _repr_html_(self) -> str:
        """Write the first items as a table, for notebooks."""
        names = [self.columns.item_id, self.columns.title, *self.attribute_names][:8]
        first = self._frame.select(names).filter(pl.Series(self._live)).head(5)
        return html_table(names, first.rows(), repr(self))

    @property
    def columns(self) -> Columns:
        """Name the columns of id, title and text."""
        return self._columns

    @property
    def report(self) -> Report:
        """Account for the rows that came in last, by reading or by `add`."""
        return self._report

    @property
    def live(self) -> Mask:
        """Mark the rows that are items now, shape (rows,); read-only."""
        return self._live

    @property
    def frame(self) -> pl.DataFrame:
        """Give the table of all rows ever, under the user's column names; ids are strings."""
        return self._frame

    @property
    def attribute_names(self) -> list[str]:
        """Name the columns besides id and title: what a filter can ask for."""
        return [name for name in self._frame.columns if name not in (self.columns.item_id, self.columns.title)]

    def no_attribute(self, name: str) -> str:
        """Say that there is no attribute of a name, and which there are."""
        known = self.attribute_names
        return f'there is no attribute "{name[:80]}"{nearest(name, known)}; the attributes are: {", ".join(known[:30])}'

    def known_attributes(self, names: Sequence[str]) -> tuple[str, ...]:
        """Check names of attributes; ``*`` stands for all.

        Raises:
            QueryError: There is no such attribute.
        """
        known = self.attribute_names
        for name in names:
            if name not in known and name != "*":
                raise QueryError(self.no_attribute(name))
        return tuple(dict.fromkeys(one for name in names for one in (known if name == "*" else [name])))

    @cached_property
    def item_ids(self) -> list[str]:
        """List the ids, by row."""
        return self._frame.get_column(self.columns.item_id).to_list()

    @cached_property
    def titles(self) -> list[str]:
        """List the titles, by row; the id stands in for an empty one."""
        titles, ids = self._frame.get_column(self.columns.title), self._frame.get_column(self.columns.item_id)
        return titles.zip_with(titles != "", ids).to_list()

    def texts(self) -> list[str]:
        """Write what a text encoder reads of each row: the title, then the text columns, joined by ". ".

        Tags are written with commas. Numbers, keys and addresses are left out; HTML is read without tags and entities.

        >>> Catalog.from_items([{"id": "1", "title": "Boot", "price": 9, "tags": ["wool", "warm"]}]).texts()
        ['Boot. wool, warm']
        """
        columns = [self._frame.get_column(name) for name in (self.columns.title, *self.columns.text)]
        parts = pl.DataFrame([without_markup(_as_words(column)) for column in columns])
        listed = [pl.col(name).str.replace_all("|", ", ", literal=True).str.strip_chars() for name in self.columns.text]
        filled = [pl.when(part != "").then(part) for part in (pl.col(self.columns.title), *listed)]
        return parts.select(pl.concat_str(filled, separator=". ", ignore_nulls=True)).to_series().to_list()

    def attributes(self, row: int) -> dict[str, object]:
        """Give an item's other columns, without the missing ones; dates and times as ISO strings, tags as a list."""
        if not 0 <= row < len(self):
            raise CatalogError(f"row {row} is not in the catalogue, which has rows 0 to {len(self) - 1}")
        values = self._frame.row(row, named=True)
        hidden = (self.columns.item_id, self.columns.title)
        return {name: _shown(value) for name, value in values.items() if value is not None and name not in hidden}

    def records(self, rows: Sequence[int] | range) -> list[dict[str, object]]:
        """Give whole items, id and title included, in values that JSON can hold and `add` and `update` take."""
        chosen = self._frame[rows.start : rows.stop] if isinstance(rows, range) else self._frame[list(rows)]
        return [{name: _shown(value) for name, value in record.items()} for record in chosen.to_dicts()]

    def where(self, expression: str | Node) -> Mask:
        """Mark the live items that fulfil a filter, shape (rows,).

        Args:
            expression: Such as ``price < 100 AND in_stock AND category IN ('boots', 'sandals')``; the grammar is in
                `genrail.catalog.filters`. Or a tree from its `parse`.

        Raises:
            FilterError: It does not parse, names an unknown field, or compares a field with a value of another type.

        Cost: one pass over the columns it names; about 10 ms for a million rows.
        """
        from genrail.catalog.filters import evaluate

        aliases = {"item_id": self.columns.item_id, "title": self.columns.title}
        return evaluate(expression, self._frame, aliases) & self._live

    def describe(self) -> str:
        """Say in words what is in the catalogue, which columns were chosen, and what became of the rows."""
        schema = self._frame.schema
        attributes = ", ".join(f"{name} ({kind_of(schema[name])})" for name in self.attribute_names)
        return "\n".join(
            [
                f"{int(self._live.sum()):,} items in {len(self):,} rows",
                f"  id:         {self.columns.item_id}",
                f"  title:      {self.columns.title}",
                f"  text:       {', '.join(self.columns.text) or '(the title only)'}",
                f"  attributes: {attributes or '(none)'}",
                str(self.report),
            ]
        )

    # --- from ids to rows -------------------------------------------------------------------------------------------

    @property
    def _lookup(self) -> RowOfId:
        if self._lookup_or_none is None:
            self._lookup_or_none = RowOfId.of(self.item_ids)
        return self._lookup_or_none

    def _row_or_none(self, item_id: str) -> int:
        row = self._lookup.get(item_id)
        return row if 0 <= row < len(self) and self._live[row] else -1

    def row(self, item_id: str) -> int:
        """Find the row of a live item.

        Raises:
            CatalogError: No live item has this id.
        """
        row = self._row_or_none(str(item_id))
        if row < 0:
            gone = " (it was removed)" if self._lookup.get(str(item_id)) >= 0 else ""
            raise CatalogError(
                f'no item has the id {item_id!r}{gone}; ids are the values of column "{self.columns.item_id}"'
            )
        return row

    def rows(self, ids: Iterable[str]) -> Rows:
        """Find the rows of many items; -1 for an id that is unknown or removed.

        >>> Catalog.from_items([{"id": "a", "title": "A"}, {"id": "b", "title": "B"}]).rows(["b", "zzz"])
        array([ 1, -1])
        """
        return np.fromiter((self._row_or_none(str(item_id)) for item_id in ids), dtype=np.int64)

    # --- new ones from old ------------------------------------------------------------------------------------------

    def add(self, items: Catalog | Sequence[Mapping[str, object]] | pl.DataFrame) -> Catalog:
        """Append items at new rows.

        New columns may come with them (missing in the old rows); what the items lack is missing in the new rows.

        Args:
            items: A catalogue, dictionaries, or a Polars table, with the same id and title columns.

        Returns:
            A new catalogue; its `report` accounts for the added rows.

        Raises:
            CatalogError: An id is live already (use `update`), or occurs twice, or a column holds another type.
        """
        new = self._as_catalog(items)
        live = [item_id for item_id in new.item_ids if self._row_or_none(item_id) >= 0]
        if live:
            named = ", ".join(repr(item_id) for item_id in live[:_NAMED])
            raise CatalogError(
                f"{len(live):,} of the added ids are in the catalogue already ({named}); "
                "use update(...) to replace these items"
            )
        return self._appended(new, self._live)

    def part(self, rows: Sequence[int]) -> Catalog:
        """Take some rows by themselves, as live items of a catalogue of their own."""
        return Catalog(self._frame[list(rows)], np.ones(len(rows), dtype=np.bool_), self._columns, self._report)

    def remove(self, ids: Iterable[str]) -> Catalog:
        """Take items out; their rows stay and are no longer live.

        Raises:
            CatalogError: An id is not a live item; nothing is removed then.
        """
        return Catalog(self._frame, self._without(ids), self._columns, self._report, self._lookup)

    def only(self, mask: Mask) -> Catalog:
        """Keep the live items that a mask over rows marks, and take the others out."""
        return Catalog(self._frame, self._live & mask, self._columns, self._report, self._lookup)

    def update(self, items: Catalog | Sequence[Mapping[str, object]] | pl.DataFrame) -> Catalog:
        """Replace items: the old rows are removed, the new ones appended, in one call.

        Ids that are not live yet are added.

        Raises:
            CatalogError: As `add`, apart from ids that are live.
        """
        new = self._as_catalog(items)
        known = [item_id for item_id in new.item_ids if self._row_or_none(item_id) >= 0]
        return self._appended(new, self._without(known))

    def _without(self, ids: Iterable[str]) -> Mask:
        if isinstance(ids, str):
            raise CatalogError(f"ids is one string ({ids!r}); give a list: [{ids!r}]")
        ids = [str(item_id) for item_id in ids]
        rows = self.rows(ids)
        if (rows < 0).any():
            unknown = [item_id for item_id, row in zip(ids, rows, strict=True) if row < 0]
            named = ", ".join(repr(item_id) for item_id in unknown[:_NAMED])
            raise CatalogError(f"{len(unknown):,} ids are not in the catalogue and cannot be removed: {named}")
        live = self._live.copy()
        live[rows] = False
        return live

    def read_more(
        self, path: str | Path, *, format: str | None = None, encoding: str | None = None, limits: Limits | None = None
    ) -> Catalog:
        """Read items to add from a file, by this catalogue's columns and types; `report` accounts for every row.

        Args:
            path: As in `read`.
            format: As in `read`.
            encoding: As in `read`.
            limits: What the file may unfold to.

        Raises:
            CatalogError: As `read`; or a value is not of the type that its column has here.
        """
        return self._by_own_rules(read_table(path, format=format, encoding=encoding, limits=limits))

    def read_changes(
        self, path: str | Path, *, format: str | None = None, encoding: str | None = None, limits: Limits | None = None
    ) -> tuple[list[dict[str, object]], Report]:
        """Read what to change of items from a file: the id, and the columns that become other.

        An empty value empties the column; in JSON, whose lines may lack a key, it leaves the column as it is.

        Args:
            path: As in `read`.
            format: As in `read`.
            encoding: As in `read`.
            limits: What the file may unfold to.

        Returns:
            Dictionaries for `amend` and `Engine.update`, and the account of every row.

        Raises:
            CatalogError: As `read_more`; or no row names an item.
        """
        table = read_table(path, format=format, encoding=encoding, limits=limits)
        frame, notes = self.typed(table)
        name = self.columns.item_id
        ids = frame.get_column(name)
        empty = frame.select(pl.all_horizontal(pl.all().is_null())).to_series()
        reasons = [
            "the row is empty" if blank else f'no item id in column "{name}"'
            for blank, missing in zip(empty, ids.is_null(), strict=True)
            if missing
        ]
        refused = [*table.refused, *zip(table.numbers[ids.is_null().to_numpy()].tolist(), reasons, strict=True)]
        kept = frame.filter(ids.is_not_null()).to_dicts()
        if table.typed:
            kept = [{key: value for key, value in row.items() if value is not None} for row in kept]
        report = Report(table.source, table.rows_in, len(kept), tuple(sorted(refused)), (*table.notes, *notes))
        if not kept:
            number, reason = report.refused[0] if report.refused else (1, "there is none")
            raise CatalogError(f"{table.source}: no row names an item; row {number}: {reason}")
        return kept, report

    def typed(self, table: Table) -> tuple[pl.DataFrame, list[str]]:
        """Bring the columns of a table to the types that they have here, and say what is worth knowing.

        Raises:
            CatalogError: The column of the ids is not there, or a value is not of its column's type.
        """
        frame, notes = canonical(table.frame)
        if self.columns.item_id not in frame.columns:
            listed = ", ".join(frame.columns[:30])
            raise CatalogError(
                f'{table.source}: there is no column "{self.columns.item_id}", which holds the ids of this catalogue; '
                f"the columns are: {listed}"
            )
        frame = frame.with_columns(ids_of(frame.get_column(self.columns.item_id), table.source))
        typing = Typing(table.source, table.numbers, table.typed, table.mixed, self._schema())
        settled = [typing.settle(column, False) for column in frame.get_columns()]
        return pl.DataFrame([column for column, _ in settled]), notes + [note for _, said in settled for note in said]

    def _schema(self) -> dict[str, pl.DataType]:
        """Give the types of the columns; one that holds no value yet has none."""
        roles = (self.columns.item_id, self.columns.title, *self.columns.text)
        return {
            column.name: column.dtype
            for column in self._frame.get_columns()
            if column.name in roles or column.null_count() < len(column)
        }

    def _as_catalog(self, items: Catalog | Sequence[Mapping[str, object]] | pl.DataFrame) -> Catalog:
        """Check added items by the rules of this catalogue; what is refused of items in memory stops all of them."""
        if isinstance(items, Catalog):
            frame = items._frame.filter(pl.Series(items._live))
            frame = frame.rename({items.columns.title: "\x00title", items.columns.item_id: "\x00id"})
            frame = frame.rename({"\x00title": self.columns.title, "\x00id": self.columns.item_id})
            table = Table.of(frame, items.report.source)
        elif isinstance(items, pl.DataFrame):
            table = Table.of(items, "the added table")
        else:
            table = _table_of(list(items), "the added items")
        new = self._by_own_rules(table)
        if new.report.refused:
            number, reason = new.report.refused[0]
            raise CatalogError(f"{table.source}: item {number} is refused, so nothing was changed: {reason}")
        if isinstance(items, Catalog):
            return Catalog(new._frame, new._live, new._columns, items.report)
        return new

    def _by_own_rules(self, table: Table) -> Catalog:
        frame, notes = canonical(table.frame)
        if frame.is_empty() and not table.refused:
            raise CatalogError(f"{table.source}: there is nothing to add")
        names = self.columns
        lacking = [pl.lit(None, dtype=pl.String).alias(name) for name in names.text if name not in frame.columns]
        table = replace(table, frame=frame.with_columns(lacking), notes=(*table.notes, *notes))
        return Catalog._from_table(table, names.item_id, names.title, names.text, Limits(), self._schema())

    def _appended(self, new: Catalog, live: Mask) -> Catalog:
        below, above = new._frame, self._frame
        nothing = [_nothing(name, above.schema[name], below) for name in above.columns if name not in below.columns]
        below = below.with_columns(nothing)
        added = [_nothing(name, below.schema[name], above) for name in below.columns if name not in above.columns]
        above = above.with_columns(added)
        for name in above.columns:
            if above.schema[name] != below.schema[name]:
                above, below = _alike(above, below, name)
        frame = pl.concat([above, below.select(above.columns)], rechunk=False)
        frame = frame.rechunk() if frame.n_chunks() > _CHUNKS else frame
        lookup = self._lookup.extended(new.item_ids, len(self))
        return Catalog(frame, np.concatenate([live, new._live]), self._columns, new._report, lookup)

    def shuffled(self, seed: int = 0) -> Catalog:
        """Renumber the live items in a seeded random order.

        Public data sets often number items in an order that gives the answer away (first appearance in the log,
        say); in this order nothing can be read off a row number. Removed rows are left out.

        >>> shop = Catalog.from_items([{"id": str(n), "title": "t"} for n in range(5)])
        >>> sorted(shop.shuffled(3).item_ids) == shop.item_ids, shop.shuffled(3).item_ids == shop.shuffled(3).item_ids
        (True, True)
        """
        rows = generator(seed, "catalog order").permutation(np.flatnonzero(self._live))
        return Catalog(self._frame[rows], np.ones(len(rows), dtype=bool), self._columns, self._report)

    # --- keeping it -------------------------------------------------------------------------------------------------

    @cached_property
    def fingerprint(self) -> str:
        """Give a checksum of everything that was said about the items: columns, values, live rows.

        It does not depend on how the catalogue came about, nor on the version of a library. Cost: one pass, about a
        second for a million items.
        """
        digest = hashlib.sha256(repr((_FINGERPRINTED, self._columns, self._frame.schema.items())).encode())
        digest.update(np.packbits(self._live).tobytes())
        for column in self._frame.get_columns():
            digest.update(column.is_null().to_numpy().tobytes())
            if column.dtype == TAGS:
                digest.update(column.list.len().fill_null(0).cast(pl.UInt32).to_numpy().tobytes())
                column = column.explode()
            if column.dtype.is_temporal():
                column = column.to_physical()
            if column.dtype == pl.String:
                digest.update(column.str.len_bytes().fill_null(0).cast(pl.UInt32).to_numpy().tobytes())
                digest.update((column.str.join("").item() or "").encode())
            else:
                digest.update(column.fill_null(0 if column.dtype != pl.Boolean else False).to_numpy().tobytes())
        return digest.hexdigest()

    def save(self, folder: str | Path) -> None:
        """Write `items.parquet` and `catalog.json` into an existing folder.

        Raises:
            OSError: The folder is not there or cannot be written.
        """
        folder = Path(folder)
        table = self._frame.with_columns(pl.Series(_LIVE, self._live))
        table.write_parquet(folder / "items.parquet", compression="zstd", compression_level=3)
        names = {"item_id": self.columns.item_id, "title": self.columns.title, "text": list(self.columns.text)}
        details = {"format": _FORMAT, "rows": len(self), "columns": names, "report": self.report.to_dict()}
        (folder / "catalog.json").write_text(json.dumps(details, indent=1, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> Catalog:
        """Read what `save` wrote.

        Raises:
            DamagedError: A file is missing or altered.
            FormatError: The folder was written by a newer version.
        """
        folder = Path(folder)
        try:
            details = json.loads((folder / "catalog.json").read_text(encoding="utf-8"))
            version = int(details["format"])
            if version > _FORMAT:
                raise FormatError(
                    f"{folder}: the catalogue has format {version}, this version reads up to {_FORMAT}; upgrade genrail"
                )
            table = pl.read_parquet(folder / "items.parquet", memory_map=False)
            live = table.get_column(_LIVE).to_numpy(writable=True)
            frame = table.drop(_LIVE)
            names = details["columns"]
            columns = Columns(str(names["item_id"]), str(names["title"]), tuple(names["text"]))
            frame.select(columns.item_id, columns.title, *columns.text)
            if len(frame) != int(details["rows"]):
                raise ValueError(f"{len(frame)} rows where {details['rows']} were saved")
            report = Report.from_dict(details["report"])
        except (OSError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
            raise DamagedError(
                f"{folder}: the saved catalogue is damaged ({error}); build or restore it again"
            ) from None
        return cls(frame, live, columns, replace(report))


def _table_of(items: Sequence[Mapping[str, object]], source: str) -> Table:
    frame, mixed = frame_and_mixed(items)
    return Table.of(frame, source, mixed)


def _nothing(name: str, kind: pl.DataType, frame: pl.DataFrame) -> pl.Series:
    return pl.Series(name, [None], dtype=kind).new_from_index(0, len(frame))


def _alike(above: pl.DataFrame, below: pl.DataFrame, name: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Give a column one type in two tables: whole numbers widen to decimal ones, and what holds nothing follows."""
    for frame, other in ((above, below), (below, above)):
        if frame.get_column(name).null_count() == len(frame):
            empty = frame.with_columns(_nothing(name, other.schema[name], frame))
            return (empty, below) if frame is above else (above, empty)
    widened = pl.col(name).cast(pl.Float64)
    return above.with_columns(widened), below.with_columns(widened)


def _as_words(column: pl.Series) -> pl.Series:
    return column.list.join(", ", ignore_nulls=True) if column.dtype == TAGS else column


def _shown(value: object) -> object:
    return written(value) if hasattr(value, "isoformat") else value
