"""Look again at what retrievers found: fusion of several answers."""

from genrail.ranking.fusion import Fusion, FusionSettings

__all__ = ["Fusion", "FusionSettings"]
