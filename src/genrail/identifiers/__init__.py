"""How items are spelled: titles as tokens, Semantic IDs from vectors, and how good they are before any training."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genrail.identifiers.product_quantization import ProductQuantization as ProductQuantization
    from genrail.identifiers.quality import IdentifierReport as IdentifierReport
    from genrail.identifiers.random_hyperplanes import RandomHyperplanes as RandomHyperplanes
    from genrail.identifiers.residual_kmeans import ResidualKMeans as ResidualKMeans
    from genrail.identifiers.rqvae import RQVAE as RQVAE
    from genrail.identifiers.semantic_ids import SemanticIds as SemanticIds
    from genrail.identifiers.table import IdentifierTable as IdentifierTable
    from genrail.identifiers.titles import Titles as Titles

_HOME = {
    "ProductQuantization": "genrail.identifiers.product_quantization",
    "RQVAE": "genrail.identifiers.rqvae",
    "IdentifierReport": "genrail.identifiers.quality",
    "IdentifierTable": "genrail.identifiers.table",
    "RandomHyperplanes": "genrail.identifiers.random_hyperplanes",
    "ResidualKMeans": "genrail.identifiers.residual_kmeans",
    "SemanticIds": "genrail.identifiers.semantic_ids",
    "Titles": "genrail.identifiers.titles",
}

__all__ = [
    "RQVAE",
    "IdentifierReport",
    "IdentifierTable",
    "ProductQuantization",
    "RandomHyperplanes",
    "ResidualKMeans",
    "SemanticIds",
    "Titles",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'genrail.identifiers' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
