"""A filter gives the right rows or a clear error: never code, never a crash, never a row too many."""

from __future__ import annotations

import operator
import re
import unicodedata

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrail.catalog import Catalog
from genrail.catalog.filter_grammar import (
    Between,
    Compare,
    Flag,
    Junction,
    Like,
    Member,
    Missing,
    Node,
    Not,
    parse,
)
from genrail.catalog.filters import evaluate
from genrail.errors import FilterError

SHOES = pl.DataFrame(
    {
        "id": ["a", "b", "c", "d"],
        "price": [89.5, 25.0, None, 120.0],
        "size": [38, 41, 2**60, None],
        "in_stock": [True, False, None, True],
        "category": ["boots", "sandals", "it's", None],
        "heel height": [1, 2, 3, 4],
        "nothing": pl.Series([None] * 4, dtype=pl.String),
    }
)


@pytest.mark.parametrize(
    ("expression", "rows"),
    [
        ("price < 100", "ab"),
        ("price<100 AND in_stock", "a"),
        ("price >= 25 and price <= 89.5", "ab"),
        ("price != 25", "ad"),
        ("price <> 25", "ad"),
        ("price == 25.0", "b"),
        ("NOT price = 25", "acd"),
        ("NOT (price = 25 OR in_stock)", "c"),
        ("in_stock", "ad"),
        ("in_stock = false", "b"),
        ("in_stock != TRUE", "b"),
        ("not in_stock", "bc"),
        ("category IN ('boots', 'sandals')", "ab"),
        ("category not in ('boots')", "bc"),
        ("category IN ('it''s')", "c"),
        ('category = "it\'s"', "c"),
        ("category LIKE 'b%'", "a"),
        ("category LIKE '%s%'", "abc"),
        ("category LIKE 'boot_'", "a"),
        ("category LIKE 'BOOTS'", ""),
        ("category ILIKE 'BOOTS'", "a"),
        ("category NOT LIKE 'b%'", "bc"),
        ("category > 'boots'", "bc"),
        ("category BETWEEN 'a' AND 'c'", "a"),
        ("price BETWEEN 25 AND 89.5", "ab"),
        ("price NOT BETWEEN 25 AND 89.5", "d"),
        ("price IS NULL", "c"),
        ("price IS NOT NULL AND category IS NULL", "d"),
        ("size = 38.0", "a"),
        ("size > 38.5", "bc"),
        ("size < 38.5", "a"),
        ("size = 38.5", ""),
        ("size != 38.5", "abc"),
        ("size < 1e30", "abc"),
        ("size > -99999999999999999999", "abc"),
        ("size = 1152921504606846976", "c"),
        ("size = 1152921504606846977", ""),
        ("size IN (38, 41.0, 41.5, 99999999999999999999)", "ab"),
        ("price IN (25, 120)", "bd"),
        ("`heel height` > 2", "cd"),
        ("price < 100 OR size = 38 AND in_stock = false", "ab"),
        ("(price < 100 OR size = 38) AND in_stock = false", "b"),
        ("item_id = 'c'", "c"),
        ("nothing = 5", ""),
        ("nothing = 'x' OR nothing IS NULL", "abcd"),
        ("price > -5 AND price <-.5e-3", ""),
        ("\tprice\n<\r100\n", "ab"),
    ],
)
def test_meaning(expression, rows):
    mask = evaluate(expression, SHOES, {"item_id": "id"})
    assert mask.dtype == bool
    assert "".join(np.array(SHOES["id"])[mask]) == rows


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", "is empty"),
        ("   ", "is empty"),
        ("prcie < 3", r'no field "prcie" \(did you mean "price"\?\); the fields are: id, price'),
        ("price < 'abc'", "holds numbers, not 'abc'"),
        ("price < true", "holds numbers"),
        ("category = 5", "holds text, so it cannot be compared with 5; its values are no numbers"),
        ("category = true", "holds text"),
        ("category < '5'", "holds text, so it cannot be compared with 5"),
        ("category BETWEEN '1' AND '5'", "holds text"),
        ("in_stock = 1", "compare it with true or false"),
        ("in_stock < true", "no order"),
        ("in_stock BETWEEN false AND true", "no order"),
        ("price", "cannot stand alone"),
        ("price LIKE '1%'", "LIKE is for strings"),
        ("category LIKE 5", "LIKE needs a string"),
        ("price = NULL", "IS NULL"),
        ("category = boots", "put strings in quotes: 'boots'"),
        ("price <", "expected a value, found the end"),
        ("price < 3 )", "character 11: expected AND, OR or the end"),
        ("(price < 3", r'expected a closing "\)", found the end'),
        ("price < 3 price > 4", "expected AND, OR or the end"),
        ("AND", "expected a field"),
        ("5 < price", "expected a field"),
        ("price IN ()", "expected a value"),
        ("price IN (1,)", "expected a value"),
        ("price IN 1", 'expected "'),
        ("price NOT 5", "IN, LIKE, HAS or BETWEEN"),
        ("price IS 5", "expected NULL"),
        ("price BETWEEN 1", "expected AND"),
        ("price < 10abc", "cannot read"),
        ("price < 1e999", "too large"),
        ("price < " + "9" * 50, "50 digits"),
        ("category = 'open", "the ' opened here is never closed"),
        ("`heel", "never closed"),
        ("price < 3; DROP TABLE items", "cannot read"),
        ("__import__('os').system('true')", "expected|cannot read"),
        ("price < 3 \x00", "cannot read"),
        ("category = '\ud800'", "surrogate"),
        ("category LIKE '" + "_" * 1001 + "'", "at most 1,000"),
    ],
)
def test_errors_say_where_and_how(expression, message):
    with pytest.raises(FilterError, match=message):
        evaluate(expression, SHOES)


@pytest.mark.parametrize(
    "expression",
    [
        "(" * 1_000 + "price < 3" + ")" * 1_000,
        "(" * 500_000,
        "price IN (" + ",".join(["1"] * 10**6) + ")",
        "price IN (" + ",".join(["1"] * 400_000) + ")",
        " AND ".join(["price < 3"] * 50_000),
        "price < 3 OR " * 2_000 + "price < 3",
        "x" * (2**20 + 1),
        "'" * 1_000_000,
        "`" * 1_000_001,
        "'" + "a''" * 300_000,
    ],
)
def test_huge_expressions_are_refused_cleanly(expression):
    with pytest.raises(FilterError):
        evaluate(expression, SHOES)


def test_long_expressions_within_the_limits_work():
    assert evaluate("NOT " * 40_001 + "in_stock", SHOES).tolist() == [False, True, True, False]
    assert evaluate("(" * 64 + "in_stock" + ")" * 64, SHOES).sum() == 2
    assert evaluate("size IN (" + ",".join(map(str, range(10_000))) + ")", SHOES).sum() == 2
    assert evaluate(" OR ".join(["in_stock"] * 1_000), SHOES).sum() == 2


def test_limits_at_one_more():
    with pytest.raises(FilterError, match="64 deep"):
        parse("(" * 65 + "in_stock" + ")" * 65)
    with pytest.raises(FilterError, match="10,000 values"):
        parse("size IN (" + ",".join(map(str, range(10_001))) + ")")
    with pytest.raises(FilterError, match="1,000 conditions"):
        parse(" OR ".join(["in_stock"] * 1_001))
    with pytest.raises(FilterError, match="50,000 words"):
        parse("NOT " * 50_000 + "in_stock")
    with pytest.raises(FilterError, match="a filter is a string"):
        parse(None)


def test_removed_rows_are_never_marked():
    catalog = Catalog.from_frame(SHOES, item_id="id", title="category").remove(["a"])
    assert not catalog.where("price < 1000 OR price IS NULL OR NOT in_stock OR in_stock")[0]


# --- hostile values -------------------------------------------------------------------------------------------------

_PIECES = st.sampled_from(
    [
        *[
            "'",
            '"',
            "`",
            "''",
            "\\",
            "%",
            "_",
            "(",
            ")",
            ",",
            ";",
            "--",
            "/*",
            "OR",
            "AND",
            " NOT ",
            "1=1",
            "true",
            "NULL",
        ],
        *[
            "nan",
            "inf",
            "price",
            "<",
            "=",
            "\x00",
            "\u202e",
            "é",
            "🥾",
            "\n",
            " ",
            "${x}",
            "{{7*7}}",
            "../",
            "0",
            "-1",
            "1e5",
        ],
        *["IN", "LIKE"],
    ]
)
hostile = st.lists(_PIECES, max_size=12).map("".join) | st.text(max_size=20)


@given(hostile)
@settings(max_examples=300, deadline=None)
def test_a_quoted_hostile_value_is_only_a_value(value):
    value = unicodedata.normalize("NFC", value)  # as a catalogue holds it
    frame = pl.DataFrame({"title": ["safe", value.encode("utf-8", "replace").decode(), "other"], "secret": [1, 2, 3]})
    quoted = value.replace("'", "''")
    try:
        mask = evaluate(f"title = '{quoted}'", frame)
    except FilterError:
        assert any("\ud800" <= letter <= "\udfff" for letter in value)
        return
    assert mask.tolist() == [text == value for text in frame["title"]]


@given(hostile)
@settings(max_examples=500, deadline=None)
def test_hostile_text_as_an_expression_gives_a_mask_or_an_error(expression):
    try:
        mask = evaluate(expression, SHOES)
    except FilterError:
        return
    assert mask.shape == (4,)
    assert mask.dtype == bool


# --- an oracle in plain Python --------------------------------------------------------------------------------------

SIGNS = {"=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
numbers = st.integers(-3, 3) | st.sampled_from([-2.5, -0.5, 0.0, 0.5, 1.5, 3.0])
strings = st.text(alphabet="ab%_\\'é", max_size=3)
FIELDS = {"n": st.integers(-3, 3), "x": numbers.map(float), "s": strings, "b": st.booleans()}
VALUES = {"n": numbers, "x": numbers, "s": strings, "b": st.booleans()}
rows_of = st.lists(st.fixed_dictionaries({name: st.none() | values for name, values in FIELDS.items()}), max_size=8)


def conditions() -> st.SearchStrategy[Node]:
    ordered = st.sampled_from("nxs").flatmap(
        lambda field: st.one_of(
            st.builds(Compare, st.just(field), st.sampled_from(list(SIGNS)), VALUES[field]),
            st.builds(
                Member, st.just(field), st.lists(VALUES[field], min_size=1, max_size=3).map(tuple), st.booleans()
            ),
            st.builds(Between, st.just(field), VALUES[field], VALUES[field], st.booleans()),
        )
    )
    return st.one_of(
        ordered,
        st.builds(Compare, st.just("b"), st.sampled_from(["=", "!="]), st.booleans()),
        st.builds(Flag, st.just("b")),
        st.builds(Like, st.just("s"), strings, st.booleans(), st.booleans()),
        st.builds(Missing, st.sampled_from("nxsb"), st.booleans()),
    )


trees = st.recursive(
    conditions(),
    lambda part: (
        st.builds(Not, part)
        | st.builds(Junction, st.sampled_from(["AND", "OR"]), st.lists(part, min_size=2, max_size=3).map(tuple))
    ),
    max_leaves=8,
)


def like(pattern, ignore_case):
    parts, position = [], 0
    while position < len(pattern):
        letter = pattern[position]
        if letter == "\\" and position + 1 < len(pattern):
            position += 1
            parts.append(re.escape(pattern[position]))
        else:
            parts.append({"%": ".*", "_": "."}.get(letter, re.escape(letter)))
        position += 1
    return re.compile("".join(parts), re.DOTALL | (re.IGNORECASE if ignore_case else 0))


def holds(node, row):
    if isinstance(node, Not):
        return not holds(node.part, row)
    if isinstance(node, Junction):
        return (all if node.word == "AND" else any)([holds(part, row) for part in node.parts])
    value = row[node.field]
    if isinstance(node, Missing):
        return (value is None) != node.negated
    if value is None:
        return False
    if isinstance(node, Flag):
        return value
    if isinstance(node, Compare):
        return SIGNS[node.operator](value, node.value)
    if isinstance(node, Member):
        return (value in node.values) != node.negated
    if isinstance(node, Between):
        return (node.low <= value <= node.high) != node.negated
    return bool(like(node.pattern, node.ignore_case).fullmatch(value)) != node.negated


def written(node):
    """Write a tree as an expression; the way back is `parse`."""

    def value(given):
        if isinstance(given, str):
            return "'" + given.replace("'", "''") + "'"
        return str(given).lower() if isinstance(given, bool) else repr(given)

    if isinstance(node, Not):
        return f"NOT ({written(node.part)})"
    if isinstance(node, Junction):
        return f" {node.word} ".join(f"({written(part)})" for part in node.parts)
    turned = "NOT " if getattr(node, "negated", False) else ""
    if isinstance(node, Missing):
        return f"{node.field} IS {turned}NULL"
    if isinstance(node, Flag):
        return node.field
    if isinstance(node, Compare):
        return f"{node.field} {node.operator} {value(node.value)}"
    if isinstance(node, Member):
        return f"{node.field} {turned}IN ({', '.join(map(value, node.values))})"
    if isinstance(node, Between):
        return f"{node.field} {turned}BETWEEN {value(node.low)} AND {value(node.high)}"
    return f"{node.field} {turned}{'ILIKE' if node.ignore_case else 'LIKE'} {value(node.pattern)}"


@given(trees, rows_of)
@settings(max_examples=200, deadline=None)
def test_masks_equal_a_python_oracle(tree, rows):
    schema = {"n": pl.Int64, "x": pl.Float64, "s": pl.String, "b": pl.Boolean}
    frame = pl.DataFrame(rows, schema=schema)
    expected = [holds(tree, row) for row in rows]
    assert evaluate(tree, frame).tolist() == expected
    assert evaluate(written(tree), frame).tolist() == expected


@pytest.mark.parametrize("unit", [1, 10**3, 10**6, 10**9])
def test_a_moment_may_be_given_as_a_number_in_any_usual_unit(unit):
    shop = Catalog.from_items([{"id": day, "title": day, "day": f"2024-05-{day}"} for day in ("30", "31")])
    assert shop.where(f"day > {1_717_070_000 * unit}").tolist() == [False, True]  # 2024-05-30, 11:53 UTC
