"""Turn the filters that Algolia's clients send into filters over the catalogue."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from genrail.catalog.conditions import field_name, literal
from genrail.serving.errors import Refusal

__all__ = ["facet_filters", "joined", "numeric_filters", "written_filter"]

Kinds = Mapping[str, str]  # what each attribute holds, see `genrail.catalog.facets`
Wanted = Sequence[str | Sequence[str]]

_NUMBER = r"-?\d+(?:\.\d+)?"
_COMPARED = re.compile(rf"(?P<name>.+?)\s*(?P<sign><=|>=|!=|=|<|>)\s*(?P<number>{_NUMBER})")
_BETWEEN = re.compile(rf"(?P<name>.+?)\s*:\s*(?P<low>{_NUMBER})\s+TO\s+(?P<high>{_NUMBER})", re.IGNORECASE)
_QUOTED = r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'"""
_PART = re.compile(
    rf"""\s*(?:(?P<word>[()]|(?:AND|OR|NOT)\b)
    |(?P<name>{_QUOTED}|[^\s()"':<>=!]+)\s*
        (?:(?P<test>(?:<=|>=|!=|=|<|>)\s*{_NUMBER}|:\s*{_NUMBER}\s+TO\s+{_NUMBER})|:\s*(?P<value>{_QUOTED}|[^\s()]+)))""",
    re.VERBOSE,
)


def joined(parts: Sequence[str | None]) -> str | None:
    """Ask for all of some filters."""
    return " AND ".join(f"({part})" for part in parts if part) or None


def facet_filters(wanted: Wanted, kinds: Kinds) -> str | None:
    """Write what must be equal: all of a list, one of a list inside it; ``colour:-red`` is anything but red.

    Raises:
        Refusal: 422; it is not ``attribute:value``, or no value of this attribute.

    >>> facet_filters([["brand:Ecco", "brand:O'Neill"], "new:true", "tags:-sale"], {"new": "flag", "tags": "tags"})
    "(brand = 'Ecco' OR brand = 'O''Neill') AND (new = true) AND (NOT tags HAS 'sale')"
    """
    return _all_of(wanted, lambda said: _facet(said, kinds))


def numeric_filters(wanted: Wanted, kinds: Kinds) -> str | None:
    """Write comparisons with numbers; moments are compared in seconds since 1970.

    Raises:
        Refusal: 422; it is no comparison.

    >>> numeric_filters(["price>=10", ["size = 41", "size:36 TO 38"]], {})
    '(price >= 10) AND (size = 41 OR size BETWEEN 36 AND 38)'
    """
    return _all_of(wanted, lambda said: _comparison(said, kinds))


def written_filter(text: str, kinds: Kinds) -> str | None:
    """Write the filter of one text: ``brand:Ecco AND (price < 100 OR NOT new:true)``.

    Raises:
        Refusal: 422; what cannot be read, and where.

    >>> written_filter('brand:"La Sportiva" AND (price < 100 OR NOT new:true)', {"new": "flag"})
    "brand = 'La Sportiva' AND ( price < 100 OR NOT new = true )"
    """
    found, place = [], 0
    while text[place:].strip():
        part = _PART.match(text, place)
        if part is None:
            raise Refusal(422, f"filters: {text[place : place + 40].strip()!r} cannot be read", "invalid")
        place = part.end()
        if part["word"]:
            found.append(part["word"])
        elif part["test"]:
            found.append(_comparison(f"{_bare(part['name'])} {part['test']}", kinds))
        else:
            found.append(_equal(_bare(part["name"]), _bare(part["value"]), kinds))
    return " ".join(found) or None


def _all_of(wanted: Wanted, write: Callable[[str], str]) -> str | None:
    groups = [[one] if isinstance(one, str) else one for one in wanted]
    return joined([" OR ".join(map(write, group)) for group in groups])


def _facet(said: str, kinds: Kinds) -> str:
    name, colon, value = said.partition(":")
    if not colon:
        raise Refusal(422, f"facetFilters: {said!r} is not attribute:value", "invalid")
    if value.startswith("-"):
        return f"NOT {_equal(name, value[1:], kinds)}"
    return _equal(name, value.removeprefix("\\"), kinds)


def _equal(name: str, value: str, kinds: Kinds) -> str:
    field, kind = field_name(name), kinds.get(name)
    if kind == "flag" and value.lower() in ("true", "false"):
        return f"{field} = {value.lower()}"
    if kind == "number" and re.fullmatch(_NUMBER, value):
        return f"{field} = {value}"
    return f"{field} {'HAS' if kind == 'tags' else '='} {literal(name, value)}"


def _comparison(said: str, kinds: Kinds) -> str:
    if (found := _BETWEEN.fullmatch(said.strip())) is not None:
        name, low, high = found["name"], found["low"], found["high"]
        return f"{field_name(name)} BETWEEN {_amount(name, low, kinds)} AND {_amount(name, high, kinds)}"
    if (found := _COMPARED.fullmatch(said.strip())) is None:
        raise Refusal(422, f"numericFilters: {said!r} is no comparison such as price<100 or price:10 TO 20", "invalid")
    return f"{field_name(found['name'])} {found['sign']} {_amount(found['name'], found['number'], kinds)}"


def _amount(name: str, number: str, kinds: Kinds) -> str:
    if kinds.get(name) != "moment":
        return number
    try:
        return literal(name, datetime.fromtimestamp(float(number), UTC))
    except (ValueError, OverflowError, OSError):
        raise Refusal(422, f"{name}: {number} seconds since 1970 are no moment", "invalid") from None


def _bare(text: str) -> str:
    """Take off quotes."""
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text[0] in "\"'" else text
