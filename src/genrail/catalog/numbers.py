"""Read numbers as shops write them: plain, with thousands signs, decimal commas, or one currency, by whole columns."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

__all__ = ["CODE", "Numbers", "read_numbers"]

# Digits that would lose something as a number: leading zeros, or more than a double holds exactly.
CODE = r"^[+-]?0\d+$|^[+-]?\d{16,}$"

_PLAIN = r"^(?:0|[1-9]\d*)?(?:\.\d*)?(?:[eE][+-]?\d{1,3})?$"
# By the signs that group thousands and part decimals; a column is of one of them.
_FORMS = {
    "plain": (_PLAIN, "", "."),
    "commas": (r"^(?:[1-9]\d{0,2}(?:,\d{3})+|0|[1-9]\d*)(?:\.\d+)?$", ",", "."),
    "dots": (r"^(?:[1-9]\d{0,2}(?:\.\d{3})+|0|[1-9]\d*)(?:,\d+)?$", ".", ","),
    "apostrophes": (r"^(?:[1-9]\d{0,2}(?:['’]\d{3})+|0|[1-9]\d*)(?:\.\d+)?$", "['’]", "."),
    "blanks": (r"^(?:[1-9]\d{0,2}(?: \d{3})+|0|[1-9]\d*)(?:,\d+)?$", " ", ","),
    "blanks and points": (r"^(?:[1-9]\d{0,2}(?: \d{3})+|0|[1-9]\d*)(?:\.\d+)?$", " ", "."),
}
_CODES = (
    "USD|EUR|GBP|CHF|JPY|CNY|RMB|AUD|CAD|NZD|SEK|NOK|DKK|ISK|PLN|CZK|HUF|RON|BGN|TRY|RUB|UAH|INR|PKR|IDR|MYR|SGD|HKD|"
    "TWD|KRW|THB|VND|PHP|ZAR|NGN|KES|EGP|MAD|ILS|AED|SAR|QAR|BRL|MXN|ARS|CLP|COP|PEN"
)
_CURRENCY = rf"(?:(?:US|C|A|NZ|HK|S|R)?\p{{Sc}}|(?:{_CODES})\b|\bEuros?\b|kr\b\.?|Fr\b\.?|SFr\b\.?|zł|Kč|Ft\b|Rs\b\.?)"
_SIGNED = (
    rf"(?i)^(?P<before>[+-])?\s*(?P<front>{_CURRENCY})?\s*(?P<after>[+-])?\s*"
    rf"(?P<body>[\d.,][\d.,'’ ]*(?:e[+-]?\d{{1,3}})?)\s*(?P<back>{_CURRENCY})?$"
)
_SIMPLE = r"^[+-]?(?:(?:0|[1-9]\d{0,14})(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?$"
_SAME = {
    "€": "EUR",
    "EURO": "EUR",
    "EUROS": "EUR",
    "$": "USD",
    "US$": "USD",
    "£": "GBP",
    "¥": "JPY",
    "₹": "INR",
    "RS": "INR",
}
_SPACES = r"[\u00a0\u2007\u2009\u202f]"


@dataclass(frozen=True)
class Numbers:
    """Hold what a column of strings says as numbers.

    Args:
        values: Whole numbers or decimal ones; missing where a string is none.
        form: How they were written, where that is not plain: ``"€ 1.299,00" as 1299.0``.
    """

    values: pl.Series
    form: str | None = None


def read_numbers(texts: pl.Series) -> Numbers:
    """Read strings as numbers, by the one way of writing that fits most of the column.

    Currencies are read where every value has the same one. Digits with leading zeros, or more than 15 of them, are
    codes and no numbers.

    >>> read_numbers(pl.Series(["1", "2.5", "x"])).values.to_list()
    [1.0, 2.5, None]
    >>> found = read_numbers(pl.Series(["1.299,00 €", "9,90 €"]))
    >>> found.values.to_list(), found.form
    ([1299.0, 9.9], '"1.299,00 €" as 1299.0')
    """
    texts = texts.str.replace_all(_SPACES, " ").str.replace_all("\u2212", "-", literal=True).str.strip_chars()
    if texts.str.contains(_SIMPLE).fill_null(True).all():
        return _simple(texts)
    part = texts.str.extract_groups(_SIGNED).struct.unnest()
    body = part.get_column("body").str.strip_chars()
    currency = part.get_column("front").fill_null("") + part.get_column("back").fill_null("")
    body = body.zip_with(_agreed(currency, body), _nothing(body))
    name, fits = _form(body)
    values = _cast(body.zip_with(fits, _nothing(body)), name)
    minus = (part.get_column("before").fill_null("") + part.get_column("after").fill_null("")) == "-"
    values = values.zip_with(~minus, -values)
    return Numbers(values.alias(texts.name), _shown(texts, values, currency, body, name))


def _simple(texts: pl.Series) -> Numbers:
    """Read a column in which every number is plain: the common case, several times as fast."""
    body = texts.str.strip_chars_start("+-")
    values = _cast(texts.str.strip_prefix("+"), "plain")
    return Numbers(values.alias(texts.name), _shown(texts, values, _nothing(texts, ""), body, "plain"))


def _nothing(column: pl.Series, value: str | None = None) -> pl.Series:
    return pl.Series([value], dtype=pl.String).new_from_index(0, len(column))


def _agreed(currency: pl.Series, body: pl.Series) -> pl.Series:
    """Mark the values with the currency that most of the column has, which may be none."""
    plain = currency.str.to_uppercase().str.strip_chars(". ").replace(_SAME)
    known = plain.filter(body.is_not_null())
    if known.n_unique() <= 1:
        return pl.Series([True]).new_from_index(0, len(body))
    most: str = known.mode(maintain_order=True)[0]
    return plain.is_in([most])


def _form(body: pl.Series) -> tuple[str, pl.Series]:
    code = body.str.contains(CODE).fill_null(False)
    digits = body.str.contains(r"\d").fill_null(False) & ~code & ~body.str.contains(r"^\d{16,}").fill_null(False)
    best, most, marks = "plain", -1, digits
    for name, (pattern, _, _) in _FORMS.items():
        fits = body.str.contains(pattern).fill_null(False) & digits
        count = int(fits.sum())
        if count > most:
            best, most, marks = name, count, fits
        if most == int(digits.sum()):
            break
    return best, marks


def _cast(body: pl.Series, form: str) -> pl.Series:
    _, thousands, decimal = _FORMS[form]
    plain = body
    if thousands:
        plain = plain.str.replace_all(
            thousands if thousands.startswith("[") else thousands, "", literal=len(thousands) == 1
        )
    plain = plain.str.replace(",", ".", literal=True) if decimal == "," else plain
    plain = plain.str.strip_suffix(".")
    if not plain.str.contains(r"[.eE]").any():
        return plain.cast(pl.Int64, strict=False)
    numbers = plain.cast(pl.Float64, strict=False)
    return numbers.zip_with(numbers.is_finite(), pl.Series([None], dtype=pl.Float64).new_from_index(0, len(numbers)))


def _shown(texts: pl.Series, values: pl.Series, currency: pl.Series, body: pl.Series, form: str) -> str | None:
    """Show one value whose writing is not plain, with what it was read as."""
    odd = (currency != "") & values.is_not_null() if form == "plain" else _odd(values, body, currency)
    if form == "plain" and not odd.any():
        odd = _like_thousands(body, values)
    if not odd.any():
        return None
    place = int(odd.arg_true()[0])
    return f'"{texts[place]}" as {values[place]}'


def _odd(values: pl.Series, body: pl.Series, currency: pl.Series) -> pl.Series:
    return (values.is_not_null() & (~body.str.contains(_PLAIN).fill_null(True) | (currency != ""))).fill_null(False)


def _like_thousands(body: pl.Series, values: pl.Series) -> pl.Series:
    """Mark points that may part thousands: all of them have three digits behind, as in 1.299."""
    pointed = body.str.contains(".", literal=True).fill_null(False) & values.is_not_null()
    grouped = pointed & body.str.contains(r"^[1-9]\d{0,2}\.\d{3}$").fill_null(False)
    return grouped if bool((grouped == pointed).all()) else grouped & False
