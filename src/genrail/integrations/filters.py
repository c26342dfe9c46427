"""Filters of other frameworks, written as ours.

In LlamaIndex and Haystack a missing value differs from every value. Here a comparison with a missing value is False, so
that "not equal" becomes ``NOT (field = value)``.
"""

from __future__ import annotations

from collections.abc import Sequence

from genrail.catalog.conditions import field_name, literal
from genrail.errors import FilterError
from genrail.types import JsonObject

__all__ = ["comparison", "from_haystack", "joined"]

_SIGNS = {"==": "=", ">": ">", ">=": ">=", "<": "<", "<=": "<="}
_OPPOSITES = {"!=": "==", "not in": "in", "nin": "in"}


def comparison(field: str, operator: str, value: object) -> str:
    """Write one comparison: ``== != > >= < <= in``, ``not in`` (``nin``), ``is_empty``, or a ``text_match``.

    Raises:
        FilterError: The operator is unknown, or the value is none that it can compare with.

    >>> comparison("brand", "in", ["Fell", "O'Hara"]), comparison("price", "!=", 5)
    ("brand IN ('Fell', 'O''Hara')", 'NOT (price = 5)')
    """
    if operator in _OPPOSITES:
        return f"NOT ({comparison(field, _OPPOSITES[operator], value)})"
    name = field_name(field)
    if operator == "is_empty" or (operator == "==" and value is None):
        return f"{name} IS NULL"
    if operator in _SIGNS:
        return f"{name} {_SIGNS[operator]} {literal(field, value)}"
    if operator == "in" and isinstance(value, Sequence) and not isinstance(value, str) and value:
        return f"{name} IN ({', '.join(literal(field, one) for one in value)})"
    if operator in ("text_match", "text_match_insensitive") and isinstance(value, str):
        plain = "".join(f"\\{letter}" if letter in "\\%_" else letter for letter in value)
        return f"{name} {'LIKE' if operator == 'text_match' else 'ILIKE'} {literal(field, f'%{plain}%')}"
    known = "==, !=, >, >=, <, <=, in, not in, is_empty, text_match"
    raise FilterError(f"filter on {field}: cannot compare by {operator!r} with {value!r}; the operators are {known}")


def joined(parts: Sequence[str], word: str) -> str:
    """Join conditions by ``and``, ``or`` or ``not`` (not all of them), in any case.

    Raises:
        FilterError: Nothing to join, or another word.
    """
    if not parts or word.upper() not in ("AND", "OR", "NOT"):
        raise FilterError(f"filter: cannot join {len(parts)} conditions by {word!r}; give some, and and, or or not")
    together = f" {'OR' if word.upper() == 'OR' else 'AND'} ".join(f"({part})" for part in parts)
    return f"NOT ({together})" if word.upper() == "NOT" else together


def from_haystack(filters: JsonObject) -> str:
    """Write a filter of Haystack; ``meta.`` before a field is left out.

    Raises:
        FilterError: It is not of Haystack's form.

    >>> from_haystack({"operator": "AND", "conditions": [{"field": "meta.price", "operator": "<", "value": 9}]})
    '(price < 9)'
    """
    keys = {"field", "operator", "value"} if "field" in filters else {"operator", "conditions"}
    if set(filters) != keys:
        raise FilterError(f"filter: found {', '.join(filters) or 'nothing'}; give {' and '.join(sorted(keys))}")
    if "field" in filters:
        return comparison(str(filters["field"]).removeprefix("meta."), filters["operator"], filters["value"])
    return joined([from_haystack(part) for part in filters["conditions"]], filters["operator"])
