"""Sizes of the native model."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

from genrail.errors import SettingsError
from genrail.types import Json, JsonObject

__all__ = ["NativeSettings"]


@dataclass(frozen=True)
class NativeSettings:
    """Say how large the native model is and how it is regularised.

    The defaults are those that were measured on Amazon Beauty (12,101 items, 22,363 users). Sizes were not
    searched; of dropout and learning rate a few values were tried on its validation items.

    Args:
        width: Of every representation and layer.
        heads: Attention heads; must divide `width`.
        encoder_layers: Transformer blocks that read the context, once for each request.
        depth_layers: Transformer blocks that write the identifier, once for each token and beam.
        history: At most so many items of a past are read, the latest ones.
        dropout: In the encoder's blocks.
        depth_dropout: In the depth transformer's blocks.
        input_dropout: On the representations of the items of a history.
        free_dropout: Share of the slots whose free vector is left out in a training step, so that codes and text alone
            learn to stand for an item; new items have nothing else.
        free_embeddings: Give every slot a vector of its own to learn, which is what remembers who was bought with whom.
        query_similarity: Start weight of the direct term between a query's vector and the texts below a node.

    Raises:
        SettingsError: A value outside its range.

    >>> NativeSettings(width=32, heads=2).width
    32
    """

    width: int = 64
    heads: int = 2
    encoder_layers: int = 2
    depth_layers: int = 1  # RQ-Transformer (Lee et al. 2022) uses fewer layers in depth than in time as well
    history: int = 20  # the protocol of TIGER (Rajput et al. 2023)
    dropout: float = 0.3
    depth_dropout: float = 0.2
    input_dropout: float = 0.3
    free_dropout: float = 0.0
    free_embeddings: bool = True
    query_similarity: float = 20.0  # 1 / 0.05, the temperature sentence encoders are trained with

    def __post_init__(self) -> None:
        for name in ("width", "heads", "encoder_layers", "depth_layers", "history"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}; give 1 or more")
        if self.width % self.heads:
            raise SettingsError(f"width {self.width} is not a multiple of heads {self.heads}")
        for name in ("dropout", "depth_dropout", "input_dropout", "free_dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise SettingsError(f"{name} is {getattr(self, name)}; give 0 or more and less than 1")
        if self.query_similarity < 0.0:
            raise SettingsError(f"query_similarity is {self.query_similarity}; give 0 or more")

    def to_dict(self) -> dict[str, Json]:
        """Turn the settings into plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: JsonObject) -> NativeSettings:
        """Make settings from plain values.

        Raises:
            SettingsError: A name that does not exist.
        """
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise SettingsError(f"unknown setting {unknown[0]!r}; known: {[field.name for field in fields(cls)]}")
        return cls(**values)
