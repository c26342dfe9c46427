"""Write a filter from plain values: ``{"price": {"<": 100}, "colour": ["red", "blue"], "in_stock": True}``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date

from genrail.catalog.filter_grammar import KEYWORDS
from genrail.catalog.values import written
from genrail.errors import FilterError

__all__ = ["Where", "as_filter", "field_name", "literal"]

Where = str | Mapping[str, object]
"""A filter: written, or as a dictionary of fields."""

_PLAIN = re.compile(r"[^\W\d]\w*")
_SIGNS = ("<", "<=", ">", ">=", "=", "!=")
_LISTS = (list, tuple, set, frozenset)


def as_filter(where: Where | None) -> str | None:
    """Write a dictionary of fields as a filter; a filter that is written already stays as it is.

    All conditions must hold. A field is given a value (equal to it), a list (one of them), None (no value), or a
    dictionary of operators: ``< <= > >= = !=``, ``in``, ``not in``, ``between``, ``like``, ``has``.

    Args:
        where: The filter; None or empty for none.

    Raises:
        FilterError: Neither text nor a dictionary, or an operator that there is not.

    >>> as_filter({"price": {">=": 20, "<": 100}, "colour": ["red", "it's"], "in_stock": True, "heel height": None})
    "price >= 20 AND price < 100 AND colour IN ('red', 'it''s') AND in_stock = true AND `heel height` IS NULL"
    """
    if where is None or isinstance(where, str):
        return where or None
    if not isinstance(where, Mapping):
        raise FilterError(
            f"where is a {type(where).__name__}; write 'price < 100', or give a dictionary: {{'price': {{'<': 100}}}}"
        )
    return " AND ".join(part for field, wanted in where.items() for part in _conditions(str(field), wanted)) or None


def field_name(field: str) -> str:
    """Write the name of a field, in backticks where it is no plain word."""
    plain = _PLAIN.fullmatch(field) and field.upper() not in KEYWORDS
    return field if plain else "`{}`".format(field.replace("`", "``"))


def _conditions(field: str, wanted: object) -> list[str]:
    name = field_name(field)
    if wanted is None:
        return [f"{name} IS NULL"]
    if isinstance(wanted, _LISTS):
        return [f"{name} IN {_values(field, wanted)}"]
    if not isinstance(wanted, Mapping):
        return [f"{name} = {literal(field, wanted)}"]
    return [_operation(field, name, str(sign), value) for sign, value in wanted.items()]


def _operation(field: str, name: str, sign: str, value: object) -> str:
    if sign in _SIGNS and value is not None:
        return f"{name} {sign} {literal(field, value)}"
    if sign in ("=", "!="):
        return f"{name} IS {'NOT ' if sign == '!=' else ''}NULL"
    writing = _WORDS.get(sign.lower())
    if writing is None:
        known = ", ".join((*_SIGNS, *_WORDS))
        raise FilterError(f'filter: "{field}" is given {sign!r}, which is no operator; the operators are: {known}')
    return f"{name} {sign.upper()} {writing(field, value)}"


def literal(field: str, value: object) -> str:
    """Write a value that a field is compared with.

    Raises:
        FilterError: It is no value of a field.
    """
    if hasattr(value, "item") and not isinstance(value, str | int | float):
        value = value.item()  # a number of numpy's
    if isinstance(value, date):  # and moments
        value = value.isoformat()
    if not isinstance(value, str | int | float):
        raise FilterError(
            f'filter: "{field}" is compared with a {type(value).__name__}; '
            "give text, a number, true or false, or a date"
        )
    return "'{}'".format(value.replace("'", "''")) if isinstance(value, str) else written(value)


def _values(field: str, values: object) -> str:
    if not isinstance(values, _LISTS) or not values:
        raise FilterError(f'filter: "{field}" wants a list with one value or more')
    return f"({', '.join(literal(field, value) for value in values)})"


def _between(field: str, values: object) -> str:
    if not isinstance(values, list | tuple) or len(values) != 2:
        raise FilterError(f'filter: "{field}" between wants two values: [10, 20]')
    return f"{literal(field, values[0])} AND {literal(field, values[1])}"


_WORDS: dict[str, Callable[[str, object], str]] = {
    "in": _values,
    "not in": _values,
    "between": _between,
    "like": literal,
    "has": literal,
}
