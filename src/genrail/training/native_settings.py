"""How the native model is trained."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from genrail.errors import SettingsError
from genrail.training.loop import LoopSettings

__all__ = ["TrainingSettings"]


@dataclass(frozen=True)
class TrainingSettings:
    """Say how the native model learns.

    Args:
        loop: Epochs, learning rate, stopping. An epoch is one pass over the sequences, or over the queries if there are
            no sequences.
        batch_targets: About so many next items in a step.
        batch_queries: Queries in a step.
        label_smoothing: Share of the probability that is spread evenly over a node's children (Szegedy et al. 2016).
        with_history: Share of the queries that are read behind somebody's past.
        held_out_users: So many users' last items are kept from training to validate on; None: every user's, as in the
            leave-last-out protocol.
        held_out_queries: So many queries are kept from training to validate on.
        validation_users: At most so many of the held-out users are measured after an epoch.
        validation_beam: Beam width of a validation.
        words: Of the loop for queries that are learnt after histories; None for `loop`.

    Raises:
        SettingsError: A value outside its range.
    """

    loop: LoopSettings = field(default_factory=LoopSettings)
    batch_targets: int = 1024
    batch_queries: int = 256
    label_smoothing: float = 0.1
    with_history: float = 0.3
    held_out_users: int | None = 1000
    held_out_queries: int = 500
    validation_users: int = 2000
    validation_beam: int = 10
    words: LoopSettings | None = None

    def __post_init__(self) -> None:
        for name in ("batch_targets", "batch_queries", "validation_users", "validation_beam"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}; give 1 or more")
        for name in ("label_smoothing", "with_history"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise SettingsError(f"{name} is {getattr(self, name)}; give 0 to 1")
        if (self.held_out_users or 0) < 0 or self.held_out_queries < 0:
            raise SettingsError("held_out_users and held_out_queries must be 0 or more")

    @classmethod
    def for_size(
        cls,
        items: int,
        targets: int,
        max_seconds: float | None = None,
        epochs: int | None = None,
        learning_rate: float | None = None,
    ) -> TrainingSettings:
        """Choose settings for a catalogue of this size.

        Args:
            items: In the catalogue.
            targets: Next items to learn from, over all sequences; 0 without interactions.
            max_seconds: See `LoopSettings`; of histories and words together.
            epochs: Other than by size.
            learning_rate: Likewise, of histories and words.
        """
        # A small shop has few steps in an epoch: larger steps, and validations that do not cost more than learning.
        small = LoopSettings(
            epochs=epochs or 10,
            learning_rate=learning_rate or 3e-3,
            warm_up=30,
            validate_every=2,
            max_seconds=max_seconds,
        )
        # Words behind histories have three matrices to learn, whatever the catalogue: some 300 steps of 256 queries.
        words = replace(small, epochs=epochs or min(60, max(10, 80_000 // max(items, 1))))
        if targets > 50_000:
            # Of 9 epochs on Amazon Beauty (131,000 targets) the last was the best; validation says when to stop.
            loop = LoopSettings(epochs=epochs or 12, max_seconds=max_seconds)
            loop = replace(loop, learning_rate=learning_rate or loop.learning_rate)
            return cls(loop=loop, held_out_users=1000, words=words)
        held_out = max(1, min(300, targets // 50))
        return cls(loop=small, held_out_users=held_out, held_out_queries=min(200, items // 5), words=words)
