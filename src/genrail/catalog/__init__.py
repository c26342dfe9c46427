"""The catalogue room: items, interactions, readers, filters and the demo shop."""

from __future__ import annotations

from genrail.catalog.columns import Columns
from genrail.catalog.demo import demo_catalog, demo_interactions, demo_queries, write_demo
from genrail.catalog.interactions import InteractionColumns, Interactions, Sequences
from genrail.catalog.items import Catalog
from genrail.catalog.judgements import read_qrels, read_queries
from genrail.catalog.readers import Limits
from genrail.catalog.synonyms import read_synonyms
from genrail.catalog.validation import Report

__all__ = [
    "Catalog",
    "Columns",
    "InteractionColumns",
    "Interactions",
    "Limits",
    "Report",
    "Sequences",
    "demo_catalog",
    "demo_interactions",
    "demo_queries",
    "read_qrels",
    "read_queries",
    "read_synonyms",
    "write_demo",
]
