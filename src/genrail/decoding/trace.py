"""What happened in one beam search, step by step: for people who ask why an item is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from genrail.constraints.index import ConstraintIndex, ScoreMeaning, Subset
from genrail.models.log_softmax import log_softmax
from genrail.types import Json

__all__ = ["DecodeTrace", "TracedBeam", "TracedStep"]

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TracedBeam:
    """Hold one beam at one step.

    Args:
        prefix: Tokens written so far.
        log_probability: Of the prefix.
        children: Tokens that the constraint allows next, in token order, shape (children,).
        items: Allowed items below each child, shape (children,).
        log_probabilities: Of each child given the prefix, shape (children,).
        removed: Share of the model's probability that fell on forbidden tokens, 0 to 1; where it was only asked for the
            rails, the share of their probability that fell on items that this request forbids.
        scores: What the continuations are ranked by, (children,), where that is not the path's log-probability.
    """

    prefix: tuple[int, ...]
    log_probability: float
    children: Int
    items: Int
    log_probabilities: Float
    removed: float
    scores: Float | None = None

    @property
    def ranked_by(self) -> Float:
        """Give the score of each continuation, (children,)."""
        return self.log_probability + self.log_probabilities if self.scores is None else self.scores

    def to_dict(self, top: int = 10) -> dict[str, Json]:
        """Turn the beam into plain values for JSON, with its `top` most probable children."""
        best = np.argsort(-self.log_probabilities, kind="stable")[:top]
        return {
            "prefix": list(self.prefix),
            "log_probability": _plain(self.log_probability),
            "allowed": len(self.children),
            "removed_mass": self.removed,
            "children": [
                {
                    "token": int(self.children[child]),
                    "probability": float(np.exp(self.log_probabilities[child])),
                    "items": int(self.items[child]),
                }
                for child in best
            ],
        }


@dataclass(frozen=True)
class TracedStep:
    """Hold one step: the beams that went in, and the prefixes that went on.

    Args:
        beams: Best first.
        kept: Prefixes, one token longer, that live on as beams, best first.
        died: Prefixes of beams none of whose children lives on. Their complete children, if any, were collected.
    """

    beams: tuple[TracedBeam, ...]
    kept: tuple[tuple[int, ...], ...]
    died: tuple[tuple[int, ...], ...]

    def rank(self, prefix: tuple[int, ...]) -> int | None:
        """Give the place, from 1, of a prefix among all allowed continuations of this step; None if it is not one."""
        scores, mine = [], None
        for beam in self.beams:
            scores.append(beam.ranked_by)
            if beam.prefix == prefix[:-1] and prefix[-1] in beam.children:
                mine = (len(scores) - 1, int(np.searchsorted(beam.children, prefix[-1])))
        if mine is None:
            return None
        beam_number, child = mine
        score = scores[beam_number][child]
        before = sum(int((path > score).sum()) for path in scores)
        ties = sum(int((path == score).sum()) for path in scores[:beam_number])
        return 1 + before + ties + int((scores[beam_number][:child] == score).sum())


@dataclass
class DecodeTrace:
    """Record a beam search: what each step allowed, how probable it was, and who lived on.

    Args:
        index: The constraint that was used.
        subset: The items allowed to this query.
        meaning: Of the scores.
        steps: Filled by the search.
    """

    index: ConstraintIndex = field(repr=False)
    subset: Subset | None = field(repr=False)
    meaning: ScoreMeaning
    steps: list[TracedStep] = field(default_factory=list)

    def add(
        self,
        prefixes: Sequence[tuple[int, ...]],
        states: Int,
        scores: Float,
        logits: npt.NDArray[np.float32],
        kept: Sequence[tuple[int, ...]],
    ) -> None:
        """Record one step.

        Args:
            prefixes: Tokens of each beam.
            states: State of each beam in the index, (beams, state_size).
            scores: Log-probability of each beam, (beams,).
            logits: Raw logits of each beam, (beams, V).
            kept: Prefixes that live on, best first.
        """
        beams = tuple(map(self._beam, prefixes, states, scores.tolist(), logits))
        parents = {prefix[:-1] for prefix in kept}
        died = tuple(beam.prefix for beam in beams if beam.prefix not in parents)
        self.steps.append(TracedStep(beams, tuple(kept), died))

    def _beam(self, prefix: tuple[int, ...], state: Int, score: float, logits: npt.NDArray[np.float32]) -> TracedBeam:
        children, items = self.index.children(state, self.subset)
        full = log_softmax(logits)
        removed = float(np.clip(1.0 - np.exp(full[children]).sum(), 0.0, 1.0))
        if self.meaning == "renormalised":
            among = np.zeros(len(full), dtype=np.bool_)
            among[self.index.children(state, None)[0]] = True
            full = log_softmax(logits, among)
        return TracedBeam(prefix, score, np.asarray(children), np.asarray(items), full[children], removed)

    def follow(self, tokens: Sequence[int]) -> str:
        """Say how far an identifier came.

        Args:
            tokens: Of the identifier, terminator included.

        Returns:
            One sentence, such as ``lost at step 3, rank 14 of beam 10``: its first three tokens ranked 14th among the
            step's continuations and 10 beams were kept. Steps count from 1.
        """
        sequence = tuple(int(token) for token in tokens)
        for number, step in enumerate(self.steps, start=1):
            prefix = sequence[:number]
            rank = step.rank(prefix)
            if rank is None:
                return f"not allowed at step {number}: token {sequence[number - 1]} leads to no allowed item"
            if number == len(sequence):
                return f"finished at step {number}, rank {rank}"
            if prefix not in step.kept:
                if not step.kept:
                    return f"open when the search ended at step {number}: it could not enter the top k any more"
                return f"lost at step {number}, rank {rank} of beam {len(step.kept)}"
        return f"open when the search ended after {len(self.steps)} steps"

    def to_dict(self, top: int = 10) -> dict[str, Json]:
        """Turn the trace into plain values for JSON, with the `top` most probable children of each beam."""
        return {
            "meaning": self.meaning,
            "steps": [
                {
                    "step": number,
                    "beams": [beam.to_dict(top) for beam in step.beams],
                    "kept": [list(prefix) for prefix in step.kept],
                    "died": [list(prefix) for prefix in step.died],
                }
                for number, step in enumerate(self.steps, start=1)
            ],
        }


def _plain(value: float) -> float | None:
    """JSON knows no infinity."""
    return float(value) if np.isfinite(value) else None
