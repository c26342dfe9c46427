"""Texts without HTML: what encoders and lexical methods read of descriptions that a shop's editor wrote."""

from __future__ import annotations

import html

import polars as pl

__all__ = ["has_markup", "without_markup"]

_ELEMENTS = (
    "a|abbr|address|article|aside|audio|b|blockquote|body|br|button|caption|center|cite|code|col|colgroup|dd|del|details|"
    "dfn|div|dl|dt|em|embed|figcaption|figure|font|footer|form|h[1-6]|head|header|hr|html|i|iframe|img|input|ins|kbd|"
    "label|li|link|main|mark|meta|nav|object|ol|option|p|picture|pre|q|s|samp|section|select|small|source|span|strike|"
    "strong|sub|summary|sup|svg|table|tbody|td|textarea|tfoot|th|thead|time|title|tr|tt|u|ul|var|video|wbr"
)
_TAG = rf"(?i)</?(?:{_ELEMENTS})(?:\s[^<>]*)?/?>"
_UNSEEN = r"(?is)<(?:script|style)\b[^<>]*>.*?</(?:script|style)\s*>|<!--.*?-->|<!doctype[^<>]*>"
_ENTITY = r"&(?:[A-Za-z][A-Za-z0-9]{1,31}|#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6});"
_ANY = rf"{_TAG}|{_UNSEEN}|{_ENTITY}"


def has_markup(texts: pl.Series) -> pl.Series:
    """Mark the texts that hold tags, scripts, comments or entities of HTML.

    >>> has_markup(pl.Series(["5 < 6 & 7", "<p>Warm</p>", "Tom &amp; Jerry"])).to_list()
    [False, True, True]
    """
    return texts.str.contains(_ANY).fill_null(False)


def without_markup(texts: pl.Series) -> pl.Series:
    """Take tags, scripts and comments of HTML out and write entities as characters.

    A text that would be empty without them stays as it is: it is no markup but what somebody wrote.

    >>> without_markup(pl.Series(["<p>Soft&nbsp;glaze <b>blue</b></p>", "</s>", "a < b"])).to_list()
    ['Soft glaze blue', '</s>', 'a < b']
    """
    marked = has_markup(texts)
    if not marked.any():
        return texts
    plain = texts.filter(marked).str.replace_all(_UNSEEN, " ").str.replace_all(_TAG, " ")
    plain = pl.Series(
        [None if text is None else " ".join(html.unescape(text).split()) for text in plain], dtype=pl.String
    )
    plain = plain.zip_with(plain != "", texts.filter(marked))
    return texts.scatter(marked.arg_true(), plain)
