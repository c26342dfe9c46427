"""What people did: events of user, item and time, in chronological order, ready to become row numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from genrail.catalog.columns import ITEM_ID_NAMES, canonical, find_column, frame_of, likely_columns
from genrail.catalog.given import table_given
from genrail.catalog.items import Catalog
from genrail.catalog.likes import RATING_NAMES, WEIGHT_NAMES, liked
from genrail.catalog.moments import MOMENT, read_moments, unit_of
from genrail.catalog.numbers import read_numbers
from genrail.catalog.readers import Limits, Table, read_table
from genrail.catalog.validation import Report
from genrail.catalog.values import TAGS, tidy, written_column
from genrail.errors import CatalogError, DamagedError, FormatError

__all__ = ["InteractionColumns", "Interactions", "Sequences"]

USER_NAMES = (
    "user_id", "user", "customer_id", "reviewer_id", "visitor_id", "session_id", "member_id", "account_id", "client_id",
    "person_id", "shopper_id", "buyer_id", "uid", "customer", "user_session",
)  # fmt: skip
SEQUENCE_NAMES = ("item_ids", "items", "history", "sequence", "item_sequence", "item_id_list", "product_ids")
TIME_NAMES = (
    "timestamp", "time", "ts", "event_time", "unix_time", "unixreviewtime", "datetime", "date", "created_at",
    "purchased_at", "t_dat", "unix_timestamp", "order_date", "event_date", "review_date",
)  # fmt: skip

_FORMAT = 1
UNKNOWN_WARNED = 0.05  # share of events of unknown items from which it is said
UNKNOWN_REFUSED = 0.95  # share from which nothing sensible can be learnt


@dataclass(frozen=True)
class InteractionColumns:
    """Say which columns of a file hold user, item and time, and how its rows are laid out.

    Args:
        user: Who.
        item: What: one item id, or in layout "sequences" all ids of the user in order, separated by spaces.
        timestamp: When, or None: then the order of the rows is the order in time.
        layout: "rows" (one event each) or "sequences" (one user each).
        rating: Column of ratings or weights that was used to tell likes, or None.
    """

    user: str
    item: str
    timestamp: str | None = None
    layout: str = "rows"
    rating: str | None = None


@dataclass(frozen=True)
class Sequences:
    """Hold what each user did, oldest first, as catalogue rows in flat arrays.

    User `u` did ``rows[offsets[u]:offsets[u + 1]]``. Users without a single known item are left out.

    Args:
        user_ids: The user's own user ids, in order of first appearance.
        offsets: Where each user begins, int64, shape (users + 1,).
        rows: Catalogue rows, int64, shape (events,).
        unknown: Events whose item is not in the catalogue, or was removed; they are left out.
        dropped_users: Users left out, because all their items are unknown.
        times: Timestamp of each event, shape (events,), or None where the file has none.
    """

    user_ids: list[str]
    offsets: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    unknown: int = 0
    dropped_users: int = 0
    times: npt.NDArray[np.generic] | None = None

    def __len__(self) -> int:
        return len(self.user_ids)

    def __getitem__(self, user: int) -> npt.NDArray[np.int64]:
        if not 0 <= user < len(self.user_ids):
            raise IndexError(f"user {user} of {len(self.user_ids)}")
        return self.rows[self.offsets[user] : self.offsets[user + 1]]


class Interactions:
    """Hold events of user and item, grouped by user, each user's in chronological order.

    Events of one user at the same time keep the order of the file, and `report` says how many there are: what stands
    first among them is an accident.

    >>> log = Interactions.from_sequences({"ann": ["a", "b"], "bob": ["b", "zzz"]})
    >>> shop = Catalog.from_items([{"id": "a", "title": "A"}, {"id": "b", "title": "B"}])
    >>> found = log.sequences(shop)
    >>> found.user_ids, found.offsets.tolist(), found.rows.tolist(), found.unknown
    (['ann', 'bob'], [0, 2, 3], [0, 1, 1], 1)
    """

    def __init__(self, frame: pl.DataFrame, columns: InteractionColumns, report: Report) -> None:
        """Wrap checked parts; use `read`, `from_frame`, `from_sequences` or `load`, which check them."""
        self._frame = frame
        self._columns = columns
        self._report = report

    # --- making one -------------------------------------------------------------------------------------------------

    @classmethod
    def of(cls, given: Any) -> Interactions:
        """Take events in whatever form somebody holds them.

        Args:
            given: What `Catalog.of` takes, of events; a dictionary of each user's item ids, oldest first; or
                interactions, which are given back.

        Raises:
            CatalogError: None of these, or as `read`.
        """
        if isinstance(given, Interactions):
            return given
        if isinstance(given, str | Path):
            return cls.read(given)
        if isinstance(given, Mapping) and not ({*ITEM_ID_NAMES, *SEQUENCE_NAMES} & set(map(str, given))):
            return cls.from_sequences(given)
        table = table_given(given, "the interactions")
        return cls.from_frame(table if isinstance(table, pl.DataFrame) else frame_of(table))

    @classmethod
    def read(
        cls,
        path: str | Path,
        *,
        user: str | None = None,
        item: str | None = None,
        timestamp: str | None = None,
        rating: str | None = None,
        min_rating: float | None = None,
        format: str | None = None,
        encoding: str | None = None,
        limits: Limits | None = None,
        allow_large: bool = False,
    ) -> Interactions:
        """Read events from CSV, TSV, text feeds, MovieLens' `.dat`, JSON, Parquet or RecBole `.inter`.

        Two layouts are told apart and shown in `columns.layout`: rows of (user, item, timestamp, anything else), or one
        row per user with all item ids in order: a list in JSON and Parquet, or ids separated by blanks in a column of a
        telling name (`item_ids`, `history`, `sequence`, ...). A file of single events is never taken for sequences.

        **Ratings.** A low rating is no like: of a column `rating`, `stars`, `score`, `overall`, ... events count from
        half of the highest rating on, and above 0; of `weight`, `count`, `quantity` those above 0. `report` says how
        many were left out. `min_rating` sets another bound; ``float("-inf")`` takes every event.

        Args:
            path: As in `Catalog.read`.
            user: Column of the users; guessed.
            item: Column of the item ids or sequences; guessed.
            timestamp: Column of the times; guessed, and may be absent. Numbers of one unit, or dates and times
                (``2024-05-01``, ``2024-05-01T12:30:00Z``, ``2024-05-01 12:30:00.5+02``, ``... UTC``).
            rating: Column of the ratings; guessed, and may be absent.
            min_rating: Lowest rating that is a like; by default as above.
            format: As in `Catalog.read`.
            encoding: As in `Catalog.read`.
            limits: What the file may unfold to.
            allow_large: Lift the limits on rows, decoded bytes and compression ratio.

        Raises:
            CatalogError: No such file, nothing in it, a column missing, or no row that is an event.

        Cost: about ten seconds for ten million events, on one core.
        """
        limits = limits or Limits()
        table = read_table(path, format=format, encoding=encoding, limits=limits, allow_large=allow_large)
        return cls._from_table(table, user, item, timestamp, rating, min_rating)

    @classmethod
    def from_frame(
        cls,
        frame: pl.DataFrame,
        *,
        user: str | None = None,
        item: str | None = None,
        timestamp: str | None = None,
        rating: str | None = None,
        min_rating: float | None = None,
    ) -> Interactions:
        """Take events from a Polars table; see `read` for the arguments."""
        return cls._from_table(Table.of(frame, "the table"), user, item, timestamp, rating, min_rating)

    @classmethod
    def from_sequences(cls, sequences: Mapping[str, Sequence[str]]) -> Interactions:
        """Take each user's item ids, oldest first.

        Raises:
            CatalogError: No events, or a sequence that is one string.
        """
        for user, items in sequences.items():
            if isinstance(items, str):
                raise CatalogError(f"the sequence of user {user!r} is one string; give a list of item ids")
        users = np.repeat(np.arange(len(sequences)), [len(items) for items in sequences.values()])
        names = pl.Series("user", [str(user) for user in sequences], dtype=pl.String)
        events = pl.Series("item", [str(item) for items in sequences.values() for item in items], dtype=pl.String)
        return cls._from_table(Table.of(pl.DataFrame([names[users], events]), "the sequences"), "user", "item", None)

    @classmethod
    def _from_table(
        cls,
        table: Table,
        user: str | None,
        item: str | None,
        timestamp: str | None,
        rating: str | None = None,
        min_rating: float | None = None,
    ) -> Interactions:
        if table.rows_in == 0:
            raise CatalogError(f"{table.source}: there are no rows in it; give at least one event")
        frame, notes = canonical(table.frame)
        columns = _columns(frame, table.source, user, item, timestamp, rating)
        table, frame, left_out, said = _likes(table, frame, columns, min_rating)
        notes = [*table.notes, *notes, *said]
        rows_in = table.rows_in + sum(count for count, _ in left_out)
        events, refused = _events(frame, columns, table)
        if events.is_empty():
            number, reason = refused[0] if refused else (1, "a low rating is no like")
            raise CatalogError(f"{table.source}: none of its {rows_in:,} rows is an event; row {number}: {reason}")
        events, numbers = _chronological(events)
        warnings = (*notes, *_warnings(events, numbers, columns))
        indexed = table.rows_in - len(refused)
        return cls(events, columns, Report(table.source, rows_in, indexed, tuple(refused), warnings, tuple(left_out)))

    # --- what is in it ----------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._frame)

    def __repr__(self) -> str:
        return f"Interactions({len(self):,} events of {self.users:,} users)"

    @property
    def columns(self) -> InteractionColumns:
        """Name the columns and the layout of the file."""
        return self._columns

    @property
    def report(self) -> Report:
        """Account for every row of the file; warnings count ties in time and repeats."""
        return self._report

    @property
    def frame(self) -> pl.DataFrame:
        """Give the events as a table of `user`, `item` and, if known, `timestamp`; grouped by user, chronological."""
        return self._frame

    @cached_property
    def users(self) -> int:
        """Count the users."""
        return self._frame.get_column("user").n_unique()

    def describe(self) -> str:
        """Say in words what was found and how the file was understood."""
        layout = "one event per row" if self.columns.layout == "rows" else "one user per row, item ids in order"
        return "\n".join(
            [
                f"{len(self):,} events of {self.users:,} users ({layout})",
                f"  user:      {self.columns.user}",
                f"  item:      {self.columns.item}",
                f"  timestamp: {self.columns.timestamp or '(none: the order of the file)'}",
                str(self.report).replace(" items + ", " read + "),
            ]
        )

    def sequences(self, catalog: Catalog) -> Sequences:
        """Turn events into catalogue rows, per user, oldest first.

        Events of items that the catalogue does not hold, or no longer, are left out and counted. Whole numbers that a
        program wrote as decimal ones (``12.0``) are the numbers, where only so they are in the catalogue.

        Cost: one join; about two seconds for ten million events, on one core.
        """
        joined = self._with_rows(catalog)
        known = joined.filter(pl.col("row").is_not_null())
        users = known.get_column("user").rle().struct.unnest()
        offsets = np.concatenate([[0], np.cumsum(users.get_column("len").to_numpy())]).astype(np.int64)
        return Sequences(
            user_ids=users.get_column("value").to_list(),
            offsets=offsets,
            rows=known.get_column("row").to_numpy(),
            unknown=len(joined) - len(known),
            dropped_users=self.users - len(users),
            times=known.get_column("timestamp").to_numpy() if "timestamp" in known.columns else None,
        )

    def _with_rows(self, catalog: Catalog) -> pl.DataFrame:
        """Put the catalogue's row beside each event; null where the item is unknown."""
        ids = tidy(catalog.frame.get_column(catalog.columns.item_id)).fill_null("")
        live = pl.DataFrame({"item": ids, "row": np.arange(len(catalog), dtype=np.int64)}).filter(
            pl.Series(catalog.live)
        )
        joined = self._frame.join(live, on="item", how="left", maintain_order="left")
        unknown = joined.get_column("row").is_null()
        if not unknown.any():
            return joined
        other = _other_spelling(joined.get_column("item").filter(unknown))
        rows = pl.DataFrame({"item": other}).join(live, on="item", how="left", maintain_order="left").get_column("row")
        return joined.with_columns(joined.get_column("row").scatter(unknown.arg_true(), rows))

    def account(self, catalog: Catalog) -> Report:
        """Account for every row against a catalogue: used, of unknown items, refused.

        In the layout of sequences, where a row holds several events, what is counted are events.

        Raises:
            CatalogError: More than 95 % of the events are of unknown items: an engine would learn nothing from them.
        """
        row = self._with_rows(catalog).get_column("row")
        unknown = int(row.is_null().sum())
        report, warnings = self._report, list(self._report.warnings)
        share = unknown / len(row)
        if share > UNKNOWN_WARNED:
            strange = self._frame.get_column("item").filter(row.is_null()).unique(maintain_order=True).head(3).to_list()
            known = catalog.frame.get_column(catalog.columns.item_id).filter(pl.Series(catalog.live)).head(3).to_list()
            sentence = (
                f"{unknown:,} of {len(row):,} events ({share:.0%}) are of items that the catalogue does not hold: "
                f"their ids look like {', '.join(strange)}; those of the catalogue look like {', '.join(known)}"
            )
            if share > UNKNOWN_REFUSED:
                raise CatalogError(f"{report.source}: {sentence}; name the right columns, or give the right files")
            warnings.append(sentence)
        events = self.columns.layout == "sequences"
        used = len(row) - unknown if events else report.indexed - unknown
        rows_in = len(row) + len(report.refused) if events else report.rows_in
        left_out = (*report.left_out, *([(unknown, "of unknown items")] if unknown else []))
        return replace(report, rows_in=rows_in, indexed=used, warnings=tuple(warnings), left_out=left_out)

    @cached_property
    def fingerprint(self) -> str:
        """Give a checksum of the events and their order."""
        digest = hashlib.sha256()
        for column in self._frame.get_columns():
            digest.update(column.name.encode())
            if column.dtype == pl.String:
                digest.update(column.str.len_bytes().cast(pl.UInt32).to_numpy().tobytes())
                digest.update((column.str.join("").item() or "").encode())
            else:
                digest.update(column.to_numpy().tobytes())
        return digest.hexdigest()

    # --- keeping it -------------------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Write `interactions.parquet` and `interactions.json` into an existing folder."""
        folder = Path(folder)
        self._frame.write_parquet(folder / "interactions.parquet", compression="zstd", compression_level=3)
        details = {"format": _FORMAT, "columns": asdict(self.columns), "report": self.report.to_dict()}
        text = json.dumps(details | {"events": len(self)}, indent=1, ensure_ascii=False)
        (folder / "interactions.json").write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> Interactions:
        """Read what `save` wrote.

        Raises:
            DamagedError: A file is missing or altered.
            FormatError: The folder was written by a newer version.
        """
        folder = Path(folder)
        try:
            details = json.loads((folder / "interactions.json").read_text(encoding="utf-8"))
            version = int(details["format"])
            if version > _FORMAT:
                raise FormatError(
                    f"{folder}: the interactions have format {version}, this version reads up to {_FORMAT}; "
                    "upgrade genrail"
                )
            frame = pl.read_parquet(folder / "interactions.parquet", memory_map=False)
            columns, report = InteractionColumns(**details["columns"]), Report.from_dict(details["report"])
            if len(frame) != int(details["events"]) or frame.columns[:2] != ["user", "item"]:
                raise ValueError(f"{len(frame)} events where {details['events']} were saved")
        except (OSError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
            raise DamagedError(f"{folder}: the saved interactions are damaged ({error}); restore them") from None
        return cls(frame, columns, report)


def _columns(
    frame: pl.DataFrame, source: str, user: str | None, item: str | None, timestamp: str | None, rating: str | None
) -> InteractionColumns:
    names = frame.columns
    user_name = find_column(names, user, USER_NAMES, what="user", argument="user", source=source)
    others = [name for name in names if name != user_name]
    wanted = tuple(name for name in ITEM_ID_NAMES if name not in ("id", "_id")) + SEQUENCE_NAMES + ("id", "_id")
    item_name = find_column(others, item, wanted, what="item", argument="item", source=source)
    if _holds_sequences(frame, user_name, item_name):
        return InteractionColumns(user_name, item_name, None, "sequences")
    rest = [name for name in others if name != item_name]
    if timestamp is not None:
        time_name: str | None = find_column(rest, timestamp, (), what="time", argument="timestamp", source=source)
    else:
        time_name = next(iter(likely_columns(rest, TIME_NAMES)), None)
    if time_name is not None and frame.get_column(time_name).null_count() == len(frame):
        time_name = None
    rest = [name for name in rest if name != time_name]
    if rating is not None:
        rating_name: str | None = find_column(rest, rating, (), what="rating", argument="rating", source=source)
    else:
        rating_name = next(iter(likely_columns(rest, RATING_NAMES + WEIGHT_NAMES)), None)
    return InteractionColumns(user_name, item_name, time_name, rating=rating_name)


def _holds_sequences(frame: pl.DataFrame, user: str, item: str) -> bool:
    """Tell sequences by lists, or by a telling name with several ids in a row and each user once."""
    column = frame.get_column(item)
    if column.dtype == TAGS:
        return True
    telling = bool(likely_columns([item], SEQUENCE_NAMES))
    if not telling or column.dtype != pl.String or frame.get_column(user).n_unique() < len(frame):
        return False
    return bool(column.str.contains(r"\S[\s|]+\S").any())


def _likes(
    table: Table, frame: pl.DataFrame, columns: InteractionColumns, min_rating: float | None
) -> tuple[Table, pl.DataFrame, list[tuple[int, str]], tuple[str, ...]]:
    """Leave the events out whose rating is no like."""
    if columns.rating is None:
        return table, frame, [], ()
    column = frame.get_column(columns.rating)
    values = read_numbers(column).values if column.dtype == pl.String else column
    found = liked(values, columns.rating, min_rating)
    if found is None:
        return table, frame, [], (f'the column "{columns.rating}" holds no numbers and was not used',)
    keep, sentence = found
    left_out = int((~keep).sum())
    table = replace(table, frame=frame.filter(pl.Series(keep)), numbers=table.numbers[keep])
    reason = f"of low {columns.rating}"
    return table, table.frame, [(left_out, reason)] if left_out else [], (sentence,)


def _other_spelling(ids: pl.Series) -> pl.Series:
    """Write whole numbers the other way: `12.0` as `12`, and `12` as `12.0`."""
    whole = ids.str.replace(r"^(\d+)\.0+$", "$1")
    return whole.zip_with(whole != ids, ids.str.replace(r"^(\d+)$", "$1.0"))


def _events(
    frame: pl.DataFrame, columns: InteractionColumns, table: Table
) -> tuple[pl.DataFrame, list[tuple[int, str]]]:
    """Bring the rows to columns user, item and timestamp; refuse those that lack one."""
    user = _as_ids(frame.get_column(columns.user))
    item = _as_ids(frame.get_column(columns.item))
    events = pl.DataFrame({"user": user, "item": item})
    reasons = [
        (_blank(user), f'no user in column "{columns.user}"'),
        (_blank(item), f'no item in column "{columns.item}"'),
    ]
    if columns.timestamp is not None:
        raw = frame.get_column(columns.timestamp)
        times = _times(raw, table)
        events = events.with_columns(times.alias("timestamp"))
        reasons.append((times.is_null().to_numpy(), f'no readable time in column "{columns.timestamp}"'))
    refused = dict(table.refused)
    good = np.ones(len(frame), dtype=bool)
    for bad, reason in reasons:
        good &= ~bad
        for number in table.numbers[bad].tolist():
            refused.setdefault(number, reason)
    events = events.filter(pl.Series(good)) if not good.all() else events
    if columns.layout == "sequences" and len(events):
        events = _unfolded(events)
    return events, sorted(refused.items())


def _as_ids(column: pl.Series) -> pl.Series:
    """Write ids as text; whole numbers that a file holds as decimal ones are the numbers."""
    if column.dtype == TAGS:
        return column.list.join("\x1f", ignore_nulls=True)  # kept apart from blanks and `|` within ids
    if column.dtype == pl.Float64 and (column.drop_nulls() == column.drop_nulls().round(0)).all():
        return column.cast(pl.Int64).cast(pl.String)
    return written_column(column)


def _blank(column: pl.Series) -> npt.NDArray[np.bool_]:
    return (~column.str.contains(r"\S")).fill_null(True).to_numpy()


def _unfolded(events: pl.DataFrame) -> pl.DataFrame:
    """Make one event of each id of a sequence; ids stand apart by spaces, or by `|` where lists were read."""
    items = events.get_column("item")
    if items.str.contains("\x1f", literal=True).any():
        return events.with_columns(pl.col("item").str.split("\x1f")).explode("item").drop_nulls("item")
    pattern = r"\S+" if items.str.contains(r"\S\s+\S").any() else r"[^\s|]+"
    return events.with_columns(pl.col("item").str.extract_all(pattern)).explode("item").drop_nulls("item")


def _times(raw: pl.Series, table: Table) -> pl.Series:
    """Read times as numbers of one unit, or as dates in microseconds since 1970 (UTC where nothing is said).

    Raises:
        CatalogError: Units are mixed, or most values are no times.
    """
    if raw.dtype == MOMENT:
        return raw.cast(pl.Int64)
    if raw.dtype in (pl.Int64, pl.Float64):
        return _of_one_unit(raw, table)
    texts = written_column(raw)
    numbers = read_numbers(texts).values
    moments = read_moments(texts).values.cast(pl.Int64)
    known = len(texts) - texts.null_count()
    counts = [known - (column.null_count() - texts.null_count()) for column in (numbers, moments)]
    if min(counts) > 0:
        places = [int(column.is_not_null().arg_true()[0]) for column in (numbers, moments)]
        shown = " and ".join(f'"{texts[place]}" in row {table.numbers[place]}' for place in places)
        raise CatalogError(
            f'{table.source}: the column of times "{raw.name}" mixes numbers and dates ({shown}); '
            "write all of them in one way, such as 2024-05-01T12:30:00Z"
        )
    if counts[0] > 0:
        return _of_one_unit(numbers.alias(raw.name), table)
    if counts[1] * 2 < known:
        example = texts.drop_nulls().head(1).to_list()
        raise CatalogError(
            f'{table.source}: the times in column "{raw.name}" (such as {example[0]!r}) are neither numbers nor ISO '
            "dates; write them as 2024-05-01T12:30:00Z or as seconds"
        )
    return moments


def _of_one_unit(numbers: pl.Series, table: Table) -> pl.Series:
    _, mixed = unit_of(numbers)
    if mixed is not None:
        first, other = (f"{numbers[place]} in row {table.numbers[place]}" for place in mixed)
        raise CatalogError(
            f'{table.source}: the column of times "{numbers.name}" mixes units, such as seconds and milliseconds '
            f"({first}, {other}); write all of them in one unit"
        )
    return numbers


def _chronological(events: pl.DataFrame) -> tuple[pl.DataFrame, npt.NDArray[np.uint32]]:
    """Group by user in order of first appearance; within a user sort by time, ties in the order of the file.

    Returns:
        The events, and the number of each event's user, ascending.
    """
    users = events.get_column("user").unique(maintain_order=True)
    numbers = pl.DataFrame({"user": users, "number": np.arange(len(users), dtype=np.uint32)})
    keys = ["number", "timestamp"] if "timestamp" in events.columns else ["number"]
    numbered = events.join(numbers, on="user", how="left", maintain_order="left")
    numbered = numbered.sort(keys, maintain_order=True).rechunk()
    return numbered.drop("number"), numbered.get_column("number").to_numpy()


def _warnings(events: pl.DataFrame, numbers: npt.NDArray[np.uint32], columns: InteractionColumns) -> list[str]:
    notes: list[str] = []
    pairs = _mixed(numbers, events.get_column("item"))
    repeated = len(events) - pairs.n_unique()
    if columns.timestamp is not None:
        times = events.get_column("timestamp").to_numpy()
        same = (numbers[1:] == numbers[:-1]) & (times[1:] == times[:-1])
        tied = int((np.append(same, False) | np.append(False, same)).sum())
        twice = len(events) - _mixed(pairs.to_numpy(), events.get_column("timestamp")).n_unique()
        if tied:
            notes.append(f"{tied:,} events share their time with another of the same user; the file's order decides")
        if twice:
            notes.append(f"{twice:,} events are exact duplicates (user, item, time); all are kept")
    elif columns.layout == "rows":
        notes.append("there is no time column; the order of the rows is taken for the order in time")
    if repeated:
        notes.append(f"{repeated:,} events repeat an item of the same user; all are kept")
    return notes


def _mixed(keys: npt.NDArray[np.unsignedinteger], values: pl.Series) -> pl.Series:
    """Mix keys and values into 64-bit hashes: exact enough to count repeats, and far faster than comparing strings."""
    spread = keys.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return pl.Series(spread ^ values.hash().to_numpy()).hash()
