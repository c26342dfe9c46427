"""The card of a model that was taught here: base and its terms, data, recipe and figures, as the hub shows them."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Self

from genrail.models.at_hand import NAMED
from genrail.types import Json, JsonObject

__all__ = ["CARD", "ModelCard"]

CARD = "README.md"  # as the hub wants it
PACKAGES = ("genrail", "torch", "transformers", "peft")


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except ImportError:
            continue
    return found


@dataclass(frozen=True)
class ModelCard:
    """Tell what a model was taught.

    Args:
        base: Name of the model that it was taught over.
        items: Of the catalogue.
        data: Requests that were learnt from, by where they are from.
        settings: Of the training, those that are not the defaults, by path.
        figures: What the training gave, in words: held-out requests, validation, time.
        seed: Of the training.
        versions: Of the packages that it was taught with.
    """

    base: str
    items: int
    data: Mapping[str, int]
    settings: Mapping[str, Json]
    figures: Mapping[str, str]
    seed: int = 0
    versions: Mapping[str, str] = field(default_factory=_versions)

    def write(self, folder: Path, adapter: bool) -> None:
        """Write the card into a folder of weights.

        Args:
            folder: Beside the weights.
            adapter: They are those of LoRA alone, for peft; else all, for transformers.
        """
        (folder / CARD).write_text(self.text(adapter), encoding="utf-8")

    def text(self, adapter: bool) -> str:
        """Write the card as the hub reads it: a head in YAML, then Markdown."""
        named = next((one for one in NAMED if one.name == self.base), None)
        licence = "unknown here: see the base model" if named is None else named.licence
        free = named is not None and named.licence == "Apache-2.0"
        known = self.base if named is None else named.hub
        origin = "" if named is None else f", from the package `{named.package}` (sha256 `{named.sha256[:16]}`)"
        head = {"library_name": "peft" if adapter else "transformers", "pipeline_tag": "text-generation"}
        head |= {"base_model": known} if "/" in known and not Path(known).exists() else {}
        head |= {"license": "apache-2.0" if free else "other", "tags": "[genrail, generative-retrieval]"}
        what = "A LoRA adapter" if adapter else "A language model"
        lines = [
            "---",
            *(f"{name}: {value}" for name, value in head.items()),
            "---",
            f"# {self.base}, taught a catalogue",
        ]
        lines += [
            "",
            f"{what} that writes identifiers of the items of one catalogue under constrained decoding, taught with "
            "[genrail](https://github.com/genrail/genrail). Without the catalogue's index nothing keeps what it writes "
            "to real items.",
            "",
            f"- Base: `{self.base}`{origin}. Its terms hold for these weights too: {licence}.",
            f"- Items: {self.items:,}.",
            f"- Seed: {self.seed}.",
        ]
        sections: dict[str, Mapping[str, object]] = {
            "Data": {name: f"{count:,} requests" for name, count in self.data.items()},
            "Recipe (what is not the default)": self.settings or {"recipe": "as genrail's defaults"},
            "Figures": self.figures,
            "Versions": self.versions,
        }
        for title, rows in sections.items():
            lines += ["", f"## {title}", "", "| what | value |", "|---|---|"]
            lines += [f"| {name} | {_cell(value)} |" for name, value in rows.items()]
        return "\n".join(lines) + "\n"

    def to_dict(self) -> JsonObject:
        """Turn the card into plain values, for a manifest."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: JsonObject | None) -> Self | None:
        """Read what `to_dict` gave; None for none."""
        return None if values is None else cls(**values)


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
