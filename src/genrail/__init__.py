"""Generative retrieval on rails: a catalogue file becomes a search and recommendation engine.

The public names load on first use, so that ``import genrail`` is quick and does without torch.

>>> import genrail
>>> shop = genrail.Catalog.from_items([{"sku": "a", "name": "Trail boot"}, {"sku": "b", "name": "Sandal"}])
>>> genrail.BM25(shop).search_batch([genrail.Query("boots")], k=1)[0].item_ids
['a']
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from genrail.catalog import Catalog as Catalog
    from genrail.catalog import Interactions as Interactions
    from genrail.catalog import demo_catalog as demo_catalog
    from genrail.catalog import demo_interactions as demo_interactions
    from genrail.decoding import BeamSettings as BeamSettings
    from genrail.engine import Engine as Engine
    from genrail.engine import compare as compare
    from genrail.engine import load as load
    from genrail.evaluation import evaluate as evaluate
    from genrail.finders import BM25 as BM25
    from genrail.finders import TFIDF as TFIDF
    from genrail.finders import Dense as Dense
    from genrail.finders import Popularity as Popularity
    from genrail.types import Hit as Hit
    from genrail.types import Query as Query
    from genrail.types import Ranking as Ranking
    from genrail.types import Retriever as Retriever

_HOME = {
    "BM25": "genrail.finders",
    "BeamSettings": "genrail.decoding",
    "Catalog": "genrail.catalog",
    "Dense": "genrail.finders",
    "Engine": "genrail.engine",
    "Hit": "genrail.types",
    "Interactions": "genrail.catalog",
    "Popularity": "genrail.finders",
    "Query": "genrail.types",
    "Ranking": "genrail.types",
    "Retriever": "genrail.types",
    "TFIDF": "genrail.finders",
    "compare": "genrail.engine",
    "demo_catalog": "genrail.catalog",
    "demo_interactions": "genrail.catalog",
    "evaluate": "genrail.evaluation",
    "load": "genrail.engine",
}

__all__ = ["__version__", *_HOME]  # noqa: PLE0604  names of the table above


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'genrail' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
