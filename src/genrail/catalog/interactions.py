"""What people did: events of user, item and time, in chronological order, ready to become row numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from genrail.catalog.columns import ITEM_ID_NAMES, canonical, find_column, inferred
from genrail.catalog.items import Catalog
from genrail.catalog.readers import Limits, Table, read_table
from genrail.catalog.validation import Report
from genrail.errors import CatalogError, DamagedError, FormatError

__all__ = ["InteractionColumns", "Interactions", "Sequences"]

USER_NAMES = (
    "user_id", "user", "customer_id", "reviewer_id", "visitor_id", "visitorid", "session_id", "member_id", "account_id",
    "client_id", "person_id", "shopper_id", "uid", "userid", "customer",
)  # fmt: skip
SEQUENCE_NAMES = ("item_ids", "items", "history", "sequence", "item_sequence", "item_id_list", "product_ids")
TIME_NAMES = (
    "timestamp", "time", "ts", "event_time", "unix_time", "unixreviewtime", "datetime", "date", "created_at",
    "purchased_at", "t_dat", "unix_timestamp",
)  # fmt: skip

_FORMAT = 1
_ISO = r"^(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}):(\d{2})(?::(\d{2}(?:\.\d{1,9})?))?)?\s?(?:(Z)|([+-])(\d{2}):?(\d{2}))?$"
_MICROSECONDS = 1_000_000


@dataclass(frozen=True)
class InteractionColumns:
    """Say which columns of a file hold user, item and time, and how its rows are laid out.

    Args:
        user: Who.
        item: What: one item id, or in layout "sequences" all ids of the user in order, separated by spaces.
        timestamp: When, or None: then the order of the rows is the order in time.
        layout: "rows" (one event each) or "sequences" (one user each).
    """

    user: str
    item: str
    timestamp: str | None = None
    layout: str = "rows"


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
    def read(
        cls,
        path: str | Path,
        *,
        user: str | None = None,
        item: str | None = None,
        timestamp: str | None = None,
        format: str | None = None,
        encoding: str = "utf-8",
        limits: Limits | None = None,
        allow_large: bool = False,
    ) -> Interactions:
        """Read events from CSV, TSV, JSON lines (each also .gz, .zst), Parquet or RecBole `.inter`.

        Two layouts are told apart and shown in `columns.layout`: rows of (user, item, timestamp, anything else), or one
        row per user with all item ids in order, separated by spaces (in JSON and Parquet: a list).

        Args:
            path: The file.
            user: Column of the users; guessed.
            item: Column of the item ids or sequences; guessed.
            timestamp: Column of the times; guessed, and may be absent. Whole or decimal numbers, or ISO dates
                (``2024-05-01``, ``2024-05-01T12:30:00Z``, ``2024-05-01 12:30:00.5+02:00``).
            format: As in `Catalog.read`.
            encoding: Of a CSV, TSV or RecBole file.
            limits: What the file may unfold to.
            allow_large: Lift the limits on rows, decoded bytes and compression ratio.

        Raises:
            CatalogError: No such file, nothing in it, a column missing, or no row that is an event.

        Cost: about ten seconds for ten million events, on one core.
        """
        limits = limits or Limits()
        table = read_table(path, format=format, encoding=encoding, limits=limits, allow_large=allow_large)
        return cls._from_table(table, user, item, timestamp)

    @classmethod
    def from_frame(
        cls, frame: pl.DataFrame, *, user: str | None = None, item: str | None = None, timestamp: str | None = None
    ) -> Interactions:
        """Take events from a Polars table; see `read` for the arguments."""
        return cls._from_table(Table.of(frame, "the table"), user, item, timestamp)

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
    def _from_table(cls, table: Table, user: str | None, item: str | None, timestamp: str | None) -> Interactions:
        if table.rows_in == 0:
            raise CatalogError(f"{table.source}: there are no rows in it; give at least one event")
        frame, _ = canonical(table.frame)
        columns = _columns(frame, table.source, user, item, timestamp)
        events, refused = _events(frame, columns, table)
        if events.is_empty():
            number, reason = refused[0]
            raise CatalogError(
                f"{table.source}: none of its {table.rows_in:,} rows is an event; row {number}: {reason}"
            )
        events, numbers = _chronological(events)
        warnings = _warnings(events, numbers, columns)
        indexed = table.rows_in - len(refused)
        return cls(events, columns, Report(table.source, table.rows_in, indexed, tuple(refused), tuple(warnings)))

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

        Events of items that the catalogue does not hold, or no longer, are left out and counted.

        Cost: one join; about two seconds for ten million events, on one core.
        """
        ids = catalog.frame.get_column(catalog.columns.item_id)
        live = pl.DataFrame({"item": ids, "row": np.arange(len(catalog), dtype=np.int64)}).filter(
            pl.Series(catalog.live)
        )
        joined = self._frame.join(live, on="item", how="left", maintain_order="left")
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
    frame: pl.DataFrame, source: str, user: str | None, item: str | None, timestamp: str | None
) -> InteractionColumns:
    names = frame.columns
    user_name = find_column(names, user, USER_NAMES, what="user", argument="user", source=source)
    others = [name for name in names if name != user_name]
    wanted = tuple(name for name in ITEM_ID_NAMES if name not in ("id", "_id")) + SEQUENCE_NAMES + ("id", "_id")
    item_name = find_column(others, item, wanted, what="item", argument="item", source=source)
    if _holds_sequences(frame, user_name, item_name, given=item is not None):
        return InteractionColumns(user_name, item_name, None, "sequences")
    rest = [name for name in others if name != item_name]
    if timestamp is not None:
        time_name: str | None = find_column(rest, timestamp, (), what="time", argument="timestamp", source=source)
    else:
        plain = {name.lower().replace("_", ""): name for name in reversed(rest)}
        time_name = next((plain[key] for name in TIME_NAMES if (key := name.replace("_", "")) in plain), None)
    if time_name is not None and frame.get_column(time_name).null_count() == len(frame):
        time_name = None
    return InteractionColumns(user_name, item_name, time_name)


def _holds_sequences(frame: pl.DataFrame, user: str, item: str, *, given: bool) -> bool:
    """Tell sequences by the column's name, or by one row per user with several ids in most of them."""
    if not given and item.lower() in SEQUENCE_NAMES:
        return True
    column = frame.get_column(item)
    if column.dtype != pl.String or frame.get_column(user).n_unique() < len(frame):
        return False
    several = column.str.contains(r"\S[\s|]+\S").mean()
    return len(frame) > 0 and float(several or 0.0) > 0.5  # type: ignore[arg-type]


def _events(
    frame: pl.DataFrame, columns: InteractionColumns, table: Table
) -> tuple[pl.DataFrame, list[tuple[int, str]]]:
    """Bring the rows to columns user, item and timestamp; refuse those that lack one."""
    user = frame.get_column(columns.user).cast(pl.String)
    item = frame.get_column(columns.item).cast(pl.String)
    events = pl.DataFrame({"user": user, "item": item})
    reasons = [
        (_blank(user), f'no user in column "{columns.user}"'),
        (_blank(item), f'no item in column "{columns.item}"'),
    ]
    if columns.timestamp is not None:
        raw = frame.get_column(columns.timestamp)
        times = _times(raw, table.source)
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


def _blank(column: pl.Series) -> npt.NDArray[np.bool_]:
    return (~column.str.contains(r"\S")).fill_null(True).to_numpy()


def _unfolded(events: pl.DataFrame) -> pl.DataFrame:
    """Make one event of each id of a sequence; ids stand apart by spaces, or by `|` where lists were read."""
    spaced = events.get_column("item").str.contains(r"\S\s+\S").any()
    pattern = r"\S+" if spaced else r"[^\s|]+"
    return events.with_columns(pl.col("item").str.extract_all(pattern)).explode("item").drop_nulls("item")


def _times(raw: pl.Series, source: str) -> pl.Series:
    """Read times as numbers, or as ISO dates in microseconds since 1970 (UTC where nothing is said)."""
    values = inferred(raw) if raw.dtype == pl.String else raw
    if values.dtype in (pl.Int64, pl.Float64):
        return values
    times = _iso(values.cast(pl.String))
    if times.null_count() > values.null_count() + len(values) // 2:
        example = values.drop_nulls().head(1).to_list()
        raise CatalogError(
            f'{source}: the times in column "{raw.name}" (such as {example[0]!r}) are neither numbers nor ISO dates; '
            "write them as 2024-05-01T12:30:00Z or as seconds"
        )
    return times


def _iso(values: pl.Series) -> pl.Series:
    part = values.str.strip_chars().str.extract_groups(_ISO).struct.unnest()
    part.columns = ["day", "hour", "minute", "second", "zulu", "sign", "off_hour", "off_minute"]
    number = [pl.col(name).cast(pl.Float64, strict=False).fill_null(0.0) for name in part.columns[1:4]]
    hour, minute, second = number
    off = pl.col("off_hour").cast(pl.Int64).fill_null(0) * 60 + pl.col("off_minute").cast(pl.Int64).fill_null(0)
    off = pl.when(pl.col("sign") == "-").then(-off).otherwise(off)
    right = (hour < 24) & (minute < 60) & (second < 61)
    days = pl.col("day").str.to_date("%Y-%m-%d", strict=False).cast(pl.Int64)
    seconds = (hour * 3600 + minute * 60 + second - off * 60) * _MICROSECONDS
    moment = days * (86_400 * _MICROSECONDS) + seconds.round().cast(pl.Int64)
    return part.select(pl.when(right).then(moment).alias(values.name)).to_series()


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
