"""Read dates and times in their usual spellings as moments: microseconds since 1970, in UTC."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

__all__ = ["MOMENT", "Moments", "as_written", "read_moments", "unit_of"]

MOMENT = pl.Datetime("us", "UTC")

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_CLOCK = (
    r"(?:(?:T|,?\s+)(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2}(?:[.,]\d{1,9})?))?(?:\s*(?P<half>[AP]M))?)?"
    r"\s*(?:Z|UTC|GMT|(?P<sign>[+-])(?P<zone_hour>\d{2}):?(?P<zone_minute>\d{2})?(?:\s+(?:UTC|GMT))?)?$"
)
_YEAR_FIRST = r"(?i)^(?P<year>\d{4})[-/.](?P<month>\d{1,2})[-/.](?P<day>\d{1,2})" + _CLOCK
_DAY_FIRST_DOTS = r"(?i)^(?P<day>\d{1,2})\.(?P<month>\d{1,2})\.(?P<year>\d{4})" + _CLOCK
_SLASHES = r"(?i)^(?P<first>\d{1,2})[/-](?P<next>\d{1,2})[/-](?P<year>\d{4})" + _CLOCK
_NAME = r"(?P<name>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_DAY_NAME = r"(?i)^(?:[a-z]{3,9},?\s+)?(?P<day>\d{1,2})[\s-]" + _NAME + r"[\s,-]+(?P<year>\d{4})" + _CLOCK
_NAME_DAY = r"(?i)^" + _NAME + r"\s+(?P<day>\d{1,2})(?:st|nd|rd|th)?,?\s+(?P<year>\d{4})" + _CLOCK
_LIKE_A_DATE = r"(?i)\d{4}|\d[./-]\d"  # every spelling above has a year of four digits
_SECOND = 1_000_000  # microseconds


@dataclass(frozen=True)
class Moments:
    """Hold what a column of strings says as moments.

    Args:
        values: Moments; missing where a string is none.
        doubt: Why dates such as 05/06/2024 could not be read, or None.
    """

    values: pl.Series
    doubt: str | None = None


def read_moments(texts: pl.Series) -> Moments:
    """Read strings as moments; where nothing is said about the zone it is UTC.

    Read are ISO dates and times (``2024-05-01``, ``2024-05-01T12:30:00.5Z``, ``2024/05/01 12:30 +02``, ``... UTC``),
    ``01.05.2024``, month names (``1 May 2024``, ``May 1, 2024``), and ``13/05/2024`` or ``05/13/2024`` where some value
    of the column tells day from month.

    >>> read_moments(pl.Series(["2024-05-01 02:00+02", "1 May 2024", "soon"])).values.dt.to_string("%F %R").to_list()
    ['2024-05-01 00:00', '2024-05-01 00:00', None]
    """
    texts = texts.str.strip_chars()
    found = _moments(texts, _YEAR_FIRST)
    for pattern in (_DAY_FIRST_DOTS, _DAY_NAME, _NAME_DAY):
        left = texts.filter(found.is_null())
        if left.drop_nulls().is_empty() or not left.str.contains(_LIKE_A_DATE).any():
            return Moments(found)
        found = found.zip_with(found.is_not_null(), _moments(texts, pattern))
    order, doubt = _order_of_slashes(texts.filter(found.is_null()))
    if order is not None:
        pattern = _SLASHES.replace("<first>", f"<{order[0]}>").replace("<next>", f"<{order[1]}>")
        found = found.zip_with(found.is_not_null(), _moments(texts, pattern))
    return Moments(found, doubt)


def _order_of_slashes(texts: pl.Series) -> tuple[tuple[str, str] | None, str | None]:
    """Tell whether day or month comes first in dates such as 05/06/2024: by a number above 12, or not at all."""
    parts = texts.str.extract_groups(_SLASHES).struct.unnest().select("first", "next").drop_nulls()
    if parts.is_empty():
        return None, None
    numbers = parts.select(pl.all().cast(pl.Int64).max()).row(0)
    first, after = int(numbers[0]), int(numbers[1])
    if first > 12 and after > 12:
        return None, "some dates have the day first, others the month"
    if first <= 12 and after <= 12:
        return None, "day and month cannot be told apart"
    return (("day", "month") if first > 12 else ("month", "day")), None


def _moments(texts: pl.Series, pattern: str) -> pl.Series:
    part = texts.str.extract_groups(pattern).struct.unnest()
    month = pl.col("month") if "month" in part.columns else _month_of_name()
    date = pl.concat_str(
        pl.col("year"), pl.lit("-"), month.str.zfill(2), pl.lit("-"), pl.col("day").str.zfill(2)
    ).str.to_date("%Y-%m-%d", strict=False)
    hour, minute, zone_hour, zone_minute = (
        pl.col(name).cast(pl.Int64, strict=False).fill_null(0)
        for name in ("hour", "minute", "zone_hour", "zone_minute")
    )
    second = pl.col("second").str.replace(",", ".", literal=True).cast(pl.Float64, strict=False).fill_null(0.0)
    half = pl.col("half").str.to_uppercase()
    clock = pl.when(half.is_null()).then(hour).when(half == "PM").then(hour % 12 + 12).otherwise(hour % 12)
    off = pl.when(pl.col("sign") == "-").then(-1).otherwise(1) * (zone_hour * 60 + zone_minute)
    right = (hour < 24) & (minute < 60) & (second < 61) & (zone_hour < 19) & (zone_minute < 60)
    right &= half.is_null() | hour.is_between(1, 12)
    moment = date.cast(pl.Int64) * (86_400 * _SECOND) + (clock * 3600 + minute * 60 - off * 60) * _SECOND
    moment = moment + (second * _SECOND).round().cast(pl.Int64)
    return part.select(pl.when(right).then(moment).cast(MOMENT).alias(texts.name)).to_series()


def _month_of_name() -> pl.Expr:
    numbers = {name: str(number) for number, name in enumerate(_MONTHS, start=1)}
    return pl.col("name").str.to_lowercase().replace_strict(numbers, default=None, return_dtype=pl.String)


def as_written(moments: pl.Series) -> pl.Series:
    """Write moments as ISO strings, which `read_moments` reads back: the date alone at midnight.

    >>> as_written(read_moments(pl.Series(["2024-05-01", "2024-05-01 12:30:00.25"])).values).to_list()
    ['2024-05-01', '2024-05-01T12:30:00.25Z']
    """
    clock = moments.dt.to_string("%Y-%m-%dT%H:%M:%S")
    micro = moments.dt.microsecond().cast(pl.String).str.zfill(6).str.strip_chars_end("0")
    fraction = micro.str.len_bytes() > 0
    whole = (clock + "." + micro).zip_with(fraction, clock) + "Z"
    return whole.zip_with(fraction | ~clock.str.ends_with("T00:00:00"), clock.str.head(10)).alias(moments.name)


def unit_of(numbers: pl.Series) -> tuple[str | None, tuple[int, int] | None]:
    """Tell in which unit numbers count the time since 1970: seconds, milliseconds, microseconds, nanoseconds.

    Only numbers from 10^8 (1973 in seconds) on can be told; smaller ones count something else, such as steps.

    Returns:
        The unit, or None; and where units are mixed the places of two values that disagree.

    >>> unit_of(pl.Series([1_500_000_000, 1_600_000_000_000]))
    (None, (0, 1))
    """
    sizes = numbers.cast(pl.Float64)
    units = ("seconds", "milliseconds", "microseconds", "nanoseconds")
    kinds = (
        pl.when(pl.col("n") < 1e8)
        .then(None)
        .when(pl.col("n") < 1e11)
        .then(0)
        .when(pl.col("n") < 1e14)
        .then(1)
        .when(pl.col("n") < 1e17)
        .then(2)
        .otherwise(3)
    )
    found = pl.DataFrame({"n": sizes}).select(kinds.alias("kind")).to_series()
    known = found.drop_nulls()
    if known.is_empty():
        return None, None
    first = known[0]
    if known.n_unique() > 1:
        places = [(found == first).fill_null(False).arg_true()[0], (found != first).fill_null(False).arg_true()[0]]
        return None, (int(places[0]), int(places[1]))
    return units[int(first)], None
