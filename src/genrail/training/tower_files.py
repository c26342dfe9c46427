"""Two towers in a folder: one or two sentence-transformers checkpoints."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from genrail.errors import DamagedError
from genrail.models.text_encoder import TextEncoder

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["Towers", "load_towers", "write_towers"]

FILE = "towers.json"


@dataclass(frozen=True)
class Towers:
    """Hold the encoder of queries and that of items; the same one where both sides learnt together.

    Args:
        queries: Encodes queries.
        items: Encodes items.
    """

    queries: TextEncoder
    items: TextEncoder


def write_towers(folder: str | Path, encoder: TextEncoder, learnt: SentenceTransformer, shared: bool) -> Towers:
    """Write what was learnt and open it.

    Args:
        folder: Made when it is missing.
        encoder: Where the towers started; it stays the tower of the items unless `shared`.
        learnt: A SentenceTransformer.
        shared: Whether items are read by the learnt tower too.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    learnt.save(str(folder / "queries"), create_model_card=False)
    if not shared:
        encoder.model.save(str(folder / "items"), create_model_card=False)
    values = {"format": 1, "shared": shared, "max_tokens": encoder.max_tokens}
    (folder / FILE).write_text(json.dumps(values, indent=1), encoding="utf-8")
    return load_towers(folder)


def load_towers(folder: str | Path, cache: str | Path | None = None) -> Towers:
    """Open what `write_towers` wrote.

    Args:
        folder: Of the towers.
        cache: See `TextEncoder.load`.

    Raises:
        DamagedError: The folder is not whole.
    """
    path = Path(folder) / FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        shared, max_tokens = bool(values["shared"]), int(values["max_tokens"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{path} cannot be read ({error}); train the towers again") from None
    queries = TextEncoder.load(Path(folder) / "queries", max_tokens=max_tokens, cache=cache)
    items = queries if shared else TextEncoder.load(Path(folder) / "items", max_tokens=max_tokens, cache=cache)
    return Towers(queries, items)
