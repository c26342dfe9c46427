"""Filters: trees of conditions evaluated column by column; what can be written is told in `filter_grammar`."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from genrail.catalog.columns import nearest
from genrail.catalog.filter_grammar import (
    Between,
    Compare,
    Flag,
    Has,
    Junction,
    Like,
    Member,
    Missing,
    Node,
    Not,
    Value,
    parse,
)
from genrail.catalog.moments import MOMENT, read_moments
from genrail.catalog.numbers import CODE, read_numbers
from genrail.catalog.values import TAGS, written
from genrail.errors import FilterError

__all__ = ["evaluate"]

Mask = npt.NDArray[np.bool_]

_COMPARE: dict[str, Callable[..., Any]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
# Numbers count the time since 1970; in which unit, their size tells. Microseconds of each.
_UNITS = ((1e11, 1e6), (1e14, 1e3), (1e17, 1.0), (1e19, 1e-3))


def evaluate(expression: str | Node, frame: pl.DataFrame, aliases: Mapping[str, str] | None = None) -> Mask:
    """Mark the rows that fulfil a filter.

    Args:
        expression: Text, or a tree from `parse`.
        frame: Columns of the types of `genrail.catalog.values`.
        aliases: Further names of columns; a column of that very name goes first.

    Returns:
        Mask of shape (rows,).

    Raises:
        FilterError: It does not parse, a field is unknown, or a value does not fit its field.

    >>> shoes = pl.DataFrame({"size": [38, 41, None], "colour": ["blue", "red", "red"]})
    >>> evaluate("size >= 40 OR colour LIKE 'b%'", shoes).tolist()
    [True, True, False]
    """
    node = parse(expression) if isinstance(expression, str) else expression
    known = {**(aliases or {}), **{name: name for name in frame.columns}}
    return _mask(node, frame, known)


def _mask(node: Node, frame: pl.DataFrame, known: Mapping[str, str]) -> Mask:
    if isinstance(node, Not):
        return ~_mask(node.part, frame, known)
    if isinstance(node, Junction):
        join = np.logical_and if node.word == "AND" else np.logical_or
        mask = _mask(node.parts[0], frame, known)
        for part in node.parts[1:]:
            mask = join(mask, _mask(part, frame, known))
        return mask
    if node.field not in known:
        listed = ", ".join(list(known)[:30])
        raise FilterError(
            f'filter: there is no field "{node.field[:80]}"{nearest(node.field, known)}; the fields are: {listed}'
        )
    column = frame.get_column(known[node.field])
    if isinstance(node, Missing):
        return column.is_not_null().to_numpy() if node.negated else column.is_null().to_numpy()
    if column.null_count() == len(column):
        return np.zeros(len(column), dtype=bool)  # no value, so no type to disagree with
    return _condition(node, column)


def _condition(node: Flag | Compare | Member | Like | Has | Between, column: pl.Series) -> Mask:
    if isinstance(node, Flag):
        if column.dtype != pl.Boolean:
            raise FilterError(
                f'filter: "{node.field}" holds {_kind(column)}, so it cannot stand alone; compare it with a value'
            )
        return _bits(column)
    if isinstance(node, Compare):
        return _compare(column, node.operator, _fitting(column, node.value, node.field, node.operator))
    if isinstance(node, Between):
        low = _compare(column, ">=", _fitting(column, node.low, node.field, "BETWEEN"))
        inside = low & _compare(column, "<=", _fitting(column, node.high, node.field, "BETWEEN"))
    elif isinstance(node, Member):
        inside = _member(column, [_fitting(column, value, node.field, "=") for value in node.values])
    elif isinstance(node, Has):
        inside = _has(column, node)
    else:
        inside = _like(column, node)
    return column.is_not_null().to_numpy() & ~inside if node.negated else inside


def _kind(column: pl.Series) -> str:
    kinds = {pl.String(): "text", pl.Boolean(): "true and false", MOMENT: "dates and times", TAGS: "tags"}
    return kinds.get(column.dtype, "numbers")


def _bits(mask: pl.Series) -> Mask:
    return mask.fill_null(False).to_numpy()


def _fitting(column: pl.Series, value: Value, field: str, sign: str) -> Value | datetime:
    """Refuse a value of another type than its field; a field of moments reads its value as one."""
    if column.dtype == TAGS:
        example = written(value).replace("'", "''")[:40]
        raise FilterError(f"filter: \"{field}\" holds tags; ask for one of them: {field} HAS '{example}'")
    if column.dtype == MOMENT:
        return _moment(value, field)
    if column.dtype == pl.String:
        _check_text(column, value, field, sign)
    if column.dtype == pl.Boolean:
        if not isinstance(value, bool):
            raise FilterError(
                f'filter: "{field}" holds true and false, not {str(value)[:40]!r}; compare it with true or false'
            )
        if sign not in ("=", "!="):
            raise FilterError(f'filter: "{field}" holds true and false, which have no order; use = or !=, not {sign}')
    if column.dtype in (pl.Int64, pl.Float64) and (isinstance(value, (bool, str))):
        raise FilterError(
            f'filter: "{field}" holds numbers, not {str(value)[:40]!r}; give a number without quotes{_seconds(value)}'
        )
    return value


def _seconds(value: Value) -> str:
    """Say what a date is as a number, for fields of numbers that count the time."""
    if not isinstance(value, str):
        return ""
    moment = read_moments(pl.Series([value])).values[0]
    return f" (as seconds since 1970 it is {int(moment.timestamp())})" if moment is not None else ""


def _check_text(column: pl.Series, value: Value, field: str, sign: str) -> None:
    """Refuse to compare text with a number, and to order text by what looks like one: both would give wrong hits."""
    numeric = not isinstance(value, str) or (sign not in ("=", "!=") and _is_number(value))
    if not numeric:
        return
    texts = column.drop_nulls().head(10_000)
    odd = texts.filter(read_numbers(texts).values.is_null())
    shown = f'"{field}" holds text, so it cannot be compared with {written(value)[:40]}'
    if not isinstance(value, bool) and sign in ("=", "!=") and texts.str.contains(CODE).any():
        raise FilterError(f"filter: {shown}; its values are codes: write one in quotes, with all its digits")
    if len(odd) and len(odd) < len(texts):
        raise FilterError(
            f'filter: {shown} as a number, because of values such as "{odd[0][:40]}"; '
            "write these as numbers or leave them empty, and build again"
        )
    reason = "hold numbers written as text: write them without quotes" if not len(odd) else "are no numbers"
    raise FilterError(f"filter: {shown}; its values {reason}" + ("" if len(odd) else ", and build again"))


def _is_number(value: str) -> bool:
    return read_numbers(pl.Series([value], dtype=pl.String)).values.null_count() == 0


def _moment(value: Value, field: str) -> datetime:
    if isinstance(value, str):
        read = read_moments(pl.Series([value], dtype=pl.String))
        if read.values[0] is not None:
            return read.values[0]  # type: ignore[no-any-return]
        why = f" ({read.doubt})" if read.doubt else ""
        raise FilterError(
            f"filter: \"{field}\" holds dates and times, and {value[:40]!r} is none{why}; write it as '2024-05-31' or "
            "'2024-05-31T12:30:00Z'"
        )
    size = next((unit for most, unit in _UNITS if abs(value) < most), None)
    if isinstance(value, bool) or abs(value) < 1e8 or size is None:
        raise FilterError(
            f"filter: \"{field}\" holds dates and times, not {str(value)[:40]!r}; write a date in quotes: '2024-05-31'"
        )
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=float(value) * size)


def _compare(column: pl.Series, sign: str, value: Value | datetime) -> Mask:
    if isinstance(value, datetime):
        return _bits(_COMPARE[sign](column.cast(pl.Int64), _microseconds(value)))
    if column.dtype == pl.Int64:
        return _compare_integers(column, sign, value)
    if column.dtype == pl.Float64:
        value = float(value)
    return _bits(_COMPARE[sign](column, value))


def _microseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _compare_integers(column: pl.Series, sign: str, value: Value) -> Mask:
    """Compare without rounding the column to floating point: 2.5 lies between 2 and 3, 10**30 above everything."""
    assert isinstance(value, (int, float))
    whole = math.floor(value)
    present = column.is_not_null().to_numpy()
    if not -(2**63) <= whole < 2**63:
        return present & bool(_COMPARE[sign](0, value))
    if whole == value:
        return _bits(_COMPARE[sign](column, whole))
    if sign in ("=", "!="):
        return present & (sign == "!=")
    return _bits(column <= whole if sign in ("<", "<=") else column > whole)


def _member(column: pl.Series, values: list[Value | datetime]) -> Mask:
    if column.dtype == MOMENT:
        moments = [_microseconds(value) for value in values if isinstance(value, datetime)]
        return _bits(column.cast(pl.Int64).is_in(pl.Series(moments, dtype=pl.Int64)))
    plain = [value for value in values if not isinstance(value, datetime)]
    if column.dtype == pl.Int64:
        whole = [int(value) for value in plain if int(value) == value and -(2**63) <= value < 2**63]
        return _bits(column.is_in(pl.Series(whole, dtype=pl.Int64)))
    if column.dtype == pl.Float64:
        plain = [float(value) for value in plain]
    return _bits(column.is_in(pl.Series(plain, dtype=column.dtype)))


def _like(column: pl.Series, node: Like) -> Mask:
    if column.dtype not in (pl.String, TAGS):
        raise FilterError(f'filter: "{node.field}" holds {_kind(column)}; LIKE is for strings')
    flags = "(?si)" if node.ignore_case else "(?s)"
    expression = f"{flags}^{_regular_expression(node.pattern)}$"
    try:
        if column.dtype == TAGS:  # some tag is like this
            return _bits(column.list.eval(pl.element().str.contains(expression)).list.any())
        return _bits(column.str.contains(expression))
    except pl.exceptions.PolarsError:
        raise FilterError(f"filter: the LIKE pattern {node.pattern[:40]!r} is too complex; shorten it") from None


def _has(column: pl.Series, node: Has) -> Mask:
    """Look for a tag; a number stands for how it is written."""
    if column.dtype not in (pl.String, TAGS):
        raise FilterError(f'filter: "{node.field}" holds {_kind(column)}; HAS is for tags, use = here')
    tags = column if column.dtype == TAGS else column.str.split("|").list.eval(pl.element().str.strip_chars())
    return _bits(tags.list.contains(written(node.value).strip()))


def _regular_expression(pattern: str) -> str:
    parts, plain = [], False
    for letter in pattern:
        if not plain and letter in "%_\\":
            plain = letter == "\\"
            parts.append({"%": ".*", "_": ".", "\\": ""}[letter])
            continue
        word = letter.isalnum() or letter == "_" or not letter.isascii() or letter.isspace() or letter < " "
        parts.append(letter if word else "\\" + letter)
        plain = False
    return "".join(parts) + ("\\\\" if plain else "")
