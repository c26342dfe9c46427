"""Write the golden engine of several identifiers again: python -m tests.engine.golden_several.

The folder was written by the version whose trie numbered identifiers instead of items (trie format 1). It stays as that
version left it: a newer one writes another trie, and must still read this one.
"""

from __future__ import annotations

from pathlib import Path

import genrail
from genrail.engine import Engine
from genrail.finders.titles import LanguageModelSettings
from genrail.models.checkpoints import wrap
from tests.models import checkpoints

GOLDEN = Path(__file__).parent / "golden" / "several"
TITLES = checkpoints.TITLES[:6]


def golden_engine(folder: Path) -> Engine:
    """Build an engine of six items, change it in its segments, and then in its log."""
    tokenizer = checkpoints.tokenizer(vocab_size=270)
    model = checkpoints.model("qwen2", len(tokenizer), seed=3, hidden_size=8, num_hidden_layers=1, intermediate_size=8)
    rows = [
        {"id": f"t{row}", "title": title, "price": row, "aliases": "" if row % 3 == 0 else f"boot {row} | shared"}
        for row, title in enumerate(TITLES)
    ]
    catalog = genrail.Catalog.from_items(rows)
    settings = LanguageModelSettings(aliases="aliases")
    engine = Engine.build(catalog, model=wrap(model, tokenizer), settings=settings)
    engine.add([{"id": "new", "title": "Nike Air purple", "price": 9, "aliases": "violet one | shared"}])
    engine.remove(["t1"])
    engine.save(folder)
    live = Engine.load(folder, live=True)
    live.add([{"id": "logged", "title": "Ecco Sandal beige", "price": 8, "aliases": "beige | boot 2"}])
    live.remove(["t0"])
    return live


if __name__ == "__main__":
    golden_engine(GOLDEN)
