"""Words by which an item is called, and their order: what an identifier begins with decides what a model can find."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from genrail.catalog.columns import likely_columns
from genrail.catalog.values import written
from genrail.errors import SettingsError

if TYPE_CHECKING:
    from genrail.catalog import Catalog

__all__ = ["BRAND_LAST", "KIND_FIRST", "TITLE", "Wording"]

TITLE, KIND_FIRST, BRAND_LAST = "title", "kind-first", "brand-last"
KIND_NAMES = (
    "product_type", "item_type", "leaf_category", "category", "categories", "category_name", "product_category",
    "main_category", "google_product_category", "category_path", "type", "kind", "genre", "genres", "subject",
    "subjects", "topic", "topics", "section", "department", "class",
)  # fmt: skip
STEPS = 2  # of a path such as `Clothing > Women > Leggings` that are written, from its end
MOST_OPENERS = 4  # words at the beginning of a title that may be a brand
SHARE = 0.5  # of a word's titles that it must open to be taken for a part of a brand

_SLOT = re.compile(r"\{([^{}]+)\}")
_PATH = re.compile(r"\s*[>|»]\s*")


@dataclass(frozen=True)
class Wording:
    """Say by which words items are called. A value: fitted once, it calls an item the same for good.

    Args:
        templates: One for each spelling of an item, with ``{column}`` for the values of columns and ``{title}``.
        openers: Words, in lower case, that open most of the titles that they stand in: brands. Where a template holds
            ``{brand-last}``, they are written behind the title's other words.

    >>> from genrail.catalog import Catalog
    >>> shop = Catalog.from_items([{"id": "a", "title": "Ecco trail boot", "category": "Shoes > Boots"}])
    >>> Wording.fit(shop, ["kind-first", "{title} ({category})"]).words(shop, 0)
    ['Boots, Shoes: Ecco trail boot', 'Ecco trail boot (Boots, Shoes)']
    """

    templates: tuple[str, ...] = ("{title}",)
    openers: frozenset[str] = frozenset()

    @classmethod
    def fit(cls, catalog: Catalog, spellings: Sequence[str]) -> Wording:
        """Look at a catalogue for what the spellings need.

        Args:
            catalog: The items.
            spellings: Templates, or names of some: ``title``; ``kind-first``, a column that says what an item is, and
                then the title; ``brand-last``, the title with the words behind it that mostly open titles.

        Raises:
            SettingsError: No spelling, no such column, or no column that says what an item is.
        """
        if not spellings:
            raise SettingsError("spelling names nothing; give one or more, such as title")
        templates = tuple(dict.fromkeys(_template(catalog, one) for one in spellings))
        for template in templates:
            for name in _SLOT.findall(template):
                if name not in ("title", BRAND_LAST) and name not in catalog.frame.columns:
                    columns = ", ".join(catalog.frame.columns)
                    raise SettingsError(f'spelling {template!r}: no column is named "{name}"; there are {columns}')
        wanted = any(f"{{{BRAND_LAST}}}" in template for template in templates)
        return cls(templates, _openers(catalog.titles) if wanted else frozenset())

    @property
    def plain(self) -> bool:
        """Tell whether items are called by their titles and nothing else."""
        return self.templates == ("{title}",)

    def to_dict(self) -> dict[str, list[str]]:
        """Turn it into plain values."""
        return {"templates": list(self.templates), "openers": sorted(self.openers)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Sequence[str]]) -> Wording:
        """Read what `to_dict` gave."""
        return cls(tuple(values["templates"]), frozenset(values["openers"]))

    def words(self, catalog: Catalog, row: int) -> list[str]:
        """Write the spellings of an item, each once, the first one first."""
        if self.plain:
            return [catalog.titles[row]]
        values = catalog.attributes(row)
        title = catalog.titles[row]
        values |= {"title": title, BRAND_LAST: self._turned(title)}
        return list(dict.fromkeys(_filled(template, values) or title for template in self.templates))

    def _turned(self, title: str) -> str:
        """Write the words that open titles behind the others."""
        words = title.split()
        count = 0
        while count < min(MOST_OPENERS, len(words) - 1) and _bare(words[count]) in self.openers:
            count += 1
        while count and count < len(words) - 1 and not _bare(words[count]):
            count += 1  # a dash between a brand and the rest
        return " ".join([*words[count:], *words[:count]])


def _template(catalog: Catalog, spelling: str) -> str:
    if spelling in (TITLE, BRAND_LAST):
        return f"{{{spelling}}}"
    if spelling == KIND_FIRST:
        found = likely_columns(catalog.attribute_names, KIND_NAMES)
        if not found:
            raise SettingsError(
                "spelling kind-first: no column looks as if it said what an item is (it would be called "
                f"{KIND_NAMES[0]} or {KIND_NAMES[3]}); name one, such as spelling='{{column}}: {{title}}'"
            )
        return f"{{{found[0]}}}: {{title}}"
    if not _SLOT.search(spelling):
        raise SettingsError(
            f"spelling is {spelling!r}; give {TITLE}, {KIND_FIRST}, {BRAND_LAST} or a template with {{title}}"
        )
    return spelling.replace(f"{{{catalog.columns.title}}}", "{title}")


def _filled(template: str, values: dict[str, object]) -> str:
    """Fill in a template; a value that is missing takes the words before it along."""
    parts = _SLOT.split(template)  # words, name, words, name, ..., words
    text = ""
    for place, (before, name) in enumerate(zip(parts[::2], parts[1::2], strict=False)):
        value = values[name] if name in (TITLE, BRAND_LAST) else _told(values.get(name))
        if value:
            text += f"{before if text or not place else ''}{value}"
    return (text + parts[-1]).strip()


def _told(value: object) -> str:
    """Write a value; of a path, or a list, the last steps, the last one first."""
    if value is None or value == "":
        return ""
    steps = [str(one) for one in value] if isinstance(value, list | tuple) else _PATH.split(written(value).strip())
    return ", ".join([step for step in reversed(steps) if step][:STEPS])


def _bare(word: str) -> str:
    return "".join(letter for letter in word.lower() if letter.isalnum())


def _openers(titles: Sequence[str]) -> frozenset[str]:
    """Find words that mostly stand at the beginning of titles, or behind one and the same word that does."""
    split = [[_bare(word) for word in title.split()] for title in titles]
    anywhere = Counter(word for words in split for word in set(words) if word)
    found: frozenset[str] = frozenset()
    for _ in range(MOST_OPENERS):
        pairs = Counter(pair for words in split for pair in _opening_pairs(words, found) if pair[1])
        found = frozenset(word for (_, word), count in pairs.items() if count >= SHARE * anywhere[word])
    return found


def _opening_pairs(words: Sequence[str], openers: frozenset[str]) -> set[tuple[str, str]]:
    """List the opening words of a title and the one behind them, each with the word before it."""
    count = 0
    while count < min(MOST_OPENERS - 1, len(words) - 1) and words[count] in openers:
        count += 1
    return set(zip(["", *words], words[: count + 1], strict=False))
