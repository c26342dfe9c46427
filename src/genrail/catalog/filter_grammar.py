r"""The grammar of filters: boolean expressions over an item's attributes, parsed to a tree.

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
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from genrail.errors import FilterError

__all__ = [
    "KEYWORDS",
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
    "Value",
    "parse",
]

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
SIGNS = ("=", "!=", "<", "<=", ">", ">=")
_SPELLINGS = {"==": "=", "<>": "!="}


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
        if self.tokens[self.next].kind == "symbol" and self.tokens[self.next].text in (*SIGNS, *_SPELLINGS):
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
