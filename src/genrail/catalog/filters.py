r"""Filters: boolean expressions over an item's attributes, parsed to a tree and evaluated column by column.

::

    price < 100 AND in_stock AND category IN ('boots', 'sandals')
    NOT (brand = 'Fernhill' OR title LIKE '%refurbished%') AND weight BETWEEN 200 AND 450 AND discount IS NOT NULL

========================  ==============================================================================================
comparison                ``= == != <> < <= > >=`` between a field and a value; strings compare by code point
``IN (...)``              one of the values; ``NOT IN``
``LIKE '...'``            ``%`` any characters, ``_`` one, ``\`` before either makes it plain; ``ILIKE`` ignores case
``BETWEEN a AND b``       both ends included; ``NOT BETWEEN``
``IS NULL``               no value; ``IS NOT NULL``
``in_stock``              a field of true and false stands for itself
``HAS '...'``             one of the tags of a list is this one; ``NOT HAS``; in a text, parts between ``|`` are tags
``AND OR NOT ( )``        NOT binds tighter than AND, AND tighter than OR
values                    ``'it''s'`` or ``"..."`` (quotes doubled), ``12``, ``-0.5``, ``1e3``, ``true``, ``false``
dates and times           in quotes, in any usual spelling: ``'2024-05-01'``, ``'2024-05-01 12:30Z'``, ``'1 May 2024'``;
                          or seconds, milliseconds, ... since 1970; they compare as moments, UTC where no zone is said
fields                    ``price``; others in backticks: ```heel height```; ``item_id`` and ``title`` always work
========================  ==============================================================================================

Keywords may be in any case. **A comparison with a missing value is False**, also ``!=``, ``NOT IN`` and ``NOT LIKE``;
``NOT (...)`` turns what stands behind it around, whatever the reason. Nothing is ever evaluated as code.
"""

from __future__ import annotations

import math
import operator
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from genrail.catalog.columns import nearest
from genrail.catalog.moments import MOMENT, read_moments
from genrail.catalog.numbers import CODE, read_numbers
from genrail.catalog.values import TAGS, written
from genrail.errors import FilterError

__all__ = [
    "Between",
    "Compare",
    "Flag",
    "Has",
    "Junction",
    "Like",
    "Member",
    "Missing",
    "Node",
    "Not",
    "evaluate",
    "parse",
]

Mask = npt.NDArray[np.bool_]
Value = str | int | float | bool

MAX_CHARACTERS = 2**20  # of an expression: the largest body that the server accepts
MAX_TOKENS = 50_000  # of an expression: words, values, signs
MAX_DEPTH = 64  # parentheses within parentheses
MAX_CONDITIONS = 1_000  # of an expression: each is one pass over a column
MAX_VALUES = 10_000  # of one IN list
MAX_PATTERN = 1_000  # characters of a LIKE pattern
_MAX_DIGITS = 40

KEYWORDS = frozenset({"AND", "OR", "NOT", "IN", "LIKE", "ILIKE", "BETWEEN", "IS", "NULL", "TRUE", "FALSE"})
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?![\w.]))
    | (?P<word>[^\W\d][\w.]*)
    | (?P<string>'(?:[^']++|'')*+'|"(?:[^"]++|"")*+")
    | (?P<quoted>`(?:[^`]++|``)++`)
    | (?P<symbol><=|>=|<>|!=|==|[=<>(),])
    )""",
    re.VERBOSE,
)
_COMPARE: dict[str, Callable[..., Any]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_SPELLINGS = {"==": "=", "<>": "!="}
# Numbers count the time since 1970; in which unit, their size tells. Microseconds of each.
_UNITS = ((1e11, 1e6), (1e14, 1e3), (1e17, 1.0), (1e19, 1e-3))


# --- the tree -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Flag:
    """Ask whether a field of true and false is true."""

    field: str


@dataclass(frozen=True)
class Compare:
    """Compare a field with a value by one of ``= != < <= > >=``."""

    field: str
    operator: str
    value: Value


@dataclass(frozen=True)
class Member:
    """Ask whether a field's value is (not) one of some values."""

    field: str
    values: tuple[Value, ...]
    negated: bool = False


@dataclass(frozen=True)
class Like:
    """Match a field of strings with a pattern of ``%`` and ``_``."""

    field: str
    pattern: str
    negated: bool = False
    ignore_case: bool = False


@dataclass(frozen=True)
class Has:
    """Ask whether a value is among the tags of a field."""

    field: str
    value: Value
    negated: bool = False


@dataclass(frozen=True)
class Between:
    """Ask whether a field lies between two values, both included."""

    field: str
    low: Value
    high: Value
    negated: bool = False


@dataclass(frozen=True)
class Missing:
    """Ask whether a field has no value."""

    field: str
    negated: bool = False


@dataclass(frozen=True)
class Not:
    """Turn a condition around."""

    part: Node


@dataclass(frozen=True)
class Junction:
    """Join conditions by ``AND`` or ``OR``."""

    word: str
    parts: tuple[Node, ...]


Node = Flag | Compare | Member | Like | Has | Between | Missing | Not | Junction


# --- from text to tree ----------------------------------------------------------------------------------------------


class _Token(NamedTuple):
    kind: str  # number, word, string, quoted, symbol, keyword, end
    text: str
    place: int  # of its first character, from 1


def _tokens(expression: str) -> list[_Token]:
    tokens: list[_Token] = []
    place, end = 0, len(expression.rstrip())
    while place < end:
        match = _TOKEN.match(expression, place)
        if match is None:
            raise FilterError(_unreadable(expression, place))
        kind = str(match.lastgroup)
        text, start = match.group(kind), match.start(kind) + 1
        if kind == "word" and text.upper() in KEYWORDS:
            kind, text = "keyword", text.upper()
        tokens.append(_Token(kind, text, start))
        if len(tokens) > MAX_TOKENS:
            raise FilterError(f"filter: more than {MAX_TOKENS:,} words, values and signs; split the request")
        place = match.end()
    return [*tokens, _Token("end", "", end + 1)]


def _unreadable(expression: str, place: int) -> str:
    while expression[place].isspace():
        place += 1
    letter = expression[place]
    if letter in "'\"`":
        return f"filter, character {place + 1}: the {letter} opened here is never closed"
    found = expression[place : place + 12]
    return f"filter, character {place + 1}: cannot read {found!r}; write field, operator, value, such as price < 100"


class _Parser:
    """Read an expression by recursive descent; the depth is bounded, lists and chains are loops."""

    def __init__(self, tokens: list[_Token]) -> None:
        self.tokens = tokens
        self.next = 0
        self.depth = 0
        self.conditions = 0

    def whole(self) -> Node:
        node = self.either()
        if self.tokens[self.next].kind != "end":
            raise self.wrong("AND, OR or the end")
        return node

    def either(self) -> Node:
        return self.chain("OR", lambda: self.chain("AND", self.inverted))

    def chain(self, word: str, part: Callable[[], Node]) -> Node:
        parts = [part()]
        while self.took("keyword", word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else Junction(word, tuple(parts))

    def inverted(self) -> Node:
        turned = False
        while self.took("keyword", "NOT"):
            turned = not turned
        node = self.primary()
        return Not(node) if turned else node

    def primary(self) -> Node:
        if not self.took("symbol", "("):
            return self.condition()
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise FilterError(f"filter: parentheses are nested more than {MAX_DEPTH} deep; simplify the expression")
        node = self.either()
        self.expect("symbol", ")", 'a closing ")"')
        self.depth -= 1
        return node

    def condition(self) -> Node:
        self.conditions += 1
        if self.conditions > MAX_CONDITIONS:
            raise FilterError(
                f"filter: more than {MAX_CONDITIONS:,} conditions; use IN (...) for many values of one field"
            )
        field = self.field()
        if self.tokens[self.next].kind == "symbol" and self.tokens[self.next].text in (*_COMPARE, *_SPELLINGS):
            sign = self.take().text
            return Compare(field, _SPELLINGS.get(sign, sign), self.value())
        if self.took("keyword", "IS"):
            negated = self.took("keyword", "NOT")
            self.expect("keyword", "NULL", "NULL")
            return Missing(field, negated)
        return self.word_condition(field)

    def word_condition(self, field: str) -> Node:
        negated = self.took("keyword", "NOT")
        if self.took("keyword", "IN"):
            return Member(field, self.values(), negated)
        if self.took("keyword", "BETWEEN"):
            low = self.value()
            self.expect("keyword", "AND", "AND")
            return Between(field, low, self.value(), negated)
        for word in ("LIKE", "ILIKE"):
            if self.took("keyword", word):
                return Like(field, self.pattern(), negated, word == "ILIKE")
        if self.tokens[self.next].kind == "word" and self.tokens[self.next].text.upper() == "HAS":
            self.take()  # no keyword: a field may have this name
            return Has(field, self.value(), negated)
        if negated:
            raise self.wrong("IN, LIKE, HAS or BETWEEN after NOT")
        return Flag(field)

    def field(self) -> str:
        token = self.tokens[self.next]
        if token.kind == "word":
            return self.take().text
        if token.kind == "quoted":
            return self.take().text[1:-1].replace("``", "`")
        raise self.wrong("a field")

    def values(self) -> tuple[Value, ...]:
        self.expect("symbol", "(", '"(" and a list of values')
        values = [self.value()]
        while self.took("symbol", ","):
            values.append(self.value())
            if len(values) > MAX_VALUES:
                raise FilterError(f"filter: a list has more than {MAX_VALUES:,} values; split the request")
        self.expect("symbol", ")", '"," or a closing ")"')
        return tuple(values)

    def value(self) -> Value:
        token = self.tokens[self.next]
        if token.kind == "string":
            quote = self.take().text
            return quote[1:-1].replace(quote[0] * 2, quote[0])
        if token.kind == "number":
            return _number(self.take())
        if token.kind == "keyword" and token.text in ("TRUE", "FALSE"):
            return self.take().text == "TRUE"
        if token.kind == "keyword" and token.text == "NULL":
            raise FilterError(f"filter, character {token.place}: nothing equals NULL; write IS NULL or IS NOT NULL")
        if token.kind == "word":
            raise FilterError(
                f"filter, character {token.place}: expected a value, found {token.text[:40]}; "
                f"put strings in quotes: '{token.text[:40]}'"
            )
        raise self.wrong("a value")

    def pattern(self) -> str:
        token = self.tokens[self.next]
        pattern = self.value()
        if not isinstance(pattern, str) or len(pattern) > MAX_PATTERN:
            raise FilterError(
                f"filter, character {token.place}: LIKE needs a string of at most {MAX_PATTERN:,} characters"
            )
        return pattern

    def take(self) -> _Token:
        self.next += 1
        return self.tokens[self.next - 1]

    def took(self, kind: str, text: str) -> bool:
        token = self.tokens[self.next]
        if token.kind == kind and token.text == text:
            self.next += 1
            return True
        return False

    def expect(self, kind: str, text: str, words: str) -> None:
        if not self.took(kind, text):
            raise self.wrong(words)

    def wrong(self, expected: str) -> FilterError:
        token = self.tokens[self.next]
        found = "the end" if token.kind == "end" else f"{token.text[:40]!r}"
        return FilterError(f"filter, character {token.place}: expected {expected}, found {found}")


def _number(token: _Token) -> int | float:
    if len(token.text) > _MAX_DIGITS:
        raise FilterError(
            f"filter, character {token.place}: a number of {len(token.text):,} digits; at most {_MAX_DIGITS}"
        )
    if re.fullmatch(r"[+-]?[0-9]+", token.text):
        return int(token.text)
    number = float(token.text)
    if not math.isfinite(number):
        raise FilterError(f"filter, character {token.place}: {token.text} is too large for a number")
    return number


def parse(expression: str) -> Node:
    """Read a filter expression into a tree.

    Raises:
        FilterError: It is empty, too long or deep, or not of the grammar; the message says where.

    >>> parse("price < 100 AND NOT sold")
    Junction(word='AND', parts=(Compare(field='price', operator='<', value=100), Not(part=Flag(field='sold'))))
    """
    if not isinstance(expression, str):
        raise FilterError(f"a filter is a string, not {type(expression).__name__}; write it as 'price < 100'")
    if len(expression) > MAX_CHARACTERS:
        raise FilterError(f"the filter has {len(expression):,} characters; at most {MAX_CHARACTERS:,} are read")
    if not expression.strip():
        raise FilterError("the filter is empty; write a condition, such as price < 100, or leave it out")
    if any("\ud800" <= letter <= "\udfff" for letter in expression):
        raise FilterError("the filter holds half of a surrogate pair, which no text can; encode it again as UTF-8")
    return _Parser(_tokens(unicodedata.normalize("NFC", expression))).whole()


# --- from tree to mask ----------------------------------------------------------------------------------------------


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
