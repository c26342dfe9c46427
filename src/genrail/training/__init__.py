"""Training: pairs, the one loop, and what is particular to each model.

The names are loaded when first used, so that naming the room does not pay for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genrail.training.copurchase import copurchase_vectors
    from genrail.training.distillation import Lessons
    from genrail.training.loop import LoopSettings
    from genrail.training.native import TrainingReport, train_native
    from genrail.training.native_settings import TrainingSettings
    from genrail.training.pairs import QueryPairs
    from genrail.training.pseudo_queries import QueryMaking, pseudo_queries
    from genrail.training.reinforcement import NativeCase, reinforce
    from genrail.training.rewards import ReinforcementSettings, Rollouts, RolloutSettings
    from genrail.training.span_settings import SpanSettings
    from genrail.training.two_tower import TwoTowerSettings

__all__ = [
    "Lessons",
    "LoopSettings",
    "NativeCase",
    "QueryMaking",
    "QueryPairs",
    "ReinforcementSettings",
    "RolloutSettings",
    "Rollouts",
    "SpanSettings",
    "TrainingReport",
    "TrainingSettings",
    "TwoTowerSettings",
    "copurchase_vectors",
    "pseudo_queries",
    "reinforce",
    "train_native",
]

_HOMES = {
    "Lessons": "distillation",
    "LoopSettings": "loop",
    "NativeCase": "reinforcement",
    "QueryMaking": "pseudo_queries",
    "QueryPairs": "pairs",
    "ReinforcementSettings": "rewards",
    "RolloutSettings": "rewards",
    "Rollouts": "rewards",
    "SpanSettings": "span_settings",
    "TrainingReport": "native",
    "TrainingSettings": "native_settings",
    "TwoTowerSettings": "two_tower",
    "copurchase_vectors": "copurchase",
    "pseudo_queries": "pseudo_queries",
    "reinforce": "reinforcement",
    "train_native": "native",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"genrail.training.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
