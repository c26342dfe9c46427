"""How a beam search runs: read by every search that has beams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from genrail.constraints.index import ScoreMeaning
from genrail.errors import SettingsError

__all__ = ["BeamSettings"]


@dataclass(frozen=True)
class BeamSettings:
    """Say how to search.

    Args:
        width: Beams for each query. Raised to k by itself, so that k items come out whenever k are allowed.
        length_normalisation: The score is log-probability / tokens ** p with this p (the terminator counts); 0 leaves
            the log-probability. For identifiers of equal length it changes nothing. Titles of different length: 0.6 to
            1 are usual (Wu et al. 2016, Google's Neural Machine Translation System, section 7, with another formula).
        meaning: `full_softmax` (default): probabilities of the model's whole vocabulary, the constraint only forbids.
            `renormalised`: at each step shared out among the allowed tokens of the index. With a language model the
            second costs a fraction: what must follow is certain and hardly read, see `rails_search`.
        finish: `any`: a complete candidate counts wherever it stands among a step's 2 * width candidates. `width`: only
            among the best `width`, as in the beam search of Hugging Face transformers.
        jump_tails: Read what must follow in one model call, from branching to branching (`rails_search`) or from where
            no other identifier is left below the beam, if model and index can. The answer stays the same; only between
            beams of equal score may a rounding decide otherwise.
        jump_tokens: Tails are read, best beams first, until the call holds so many tokens of a query; the other beams
            go on step by step. What is read ahead for a beam that dies is wasted, so more is not always faster.
        trace: Keep what happened at each step (`Decoded.trace`). Costs one pass over the children of each beam.
        logits_bytes: Queries are split into batches so that one step's float32 logits stay below this.
    """

    width: int = 20  # more beams than k = 10: an identifier that starts badly gets a second chance
    length_normalisation: float = 0.0
    meaning: ScoreMeaning = "full_softmax"
    finish: Literal["any", "width"] = "any"
    jump_tails: bool = True
    jump_tokens: int = 64  # one CPU core, 41 M parameters: 5 beams 2-3 times faster, 20 beams 1.2-1.4, 50 beams 0.9
    trace: bool = False
    logits_bytes: int = 256 * 2**20  # 22 queries of 20 beams over 152,000 tokens

    def __post_init__(self) -> None:
        if self.width < 1:
            raise SettingsError(f"width is {self.width}; give 1 or more")
        if not 0 <= self.length_normalisation < np.inf:
            raise SettingsError(f"length_normalisation is {self.length_normalisation}; give 0 or more")
        if self.meaning not in ("full_softmax", "renormalised"):
            raise SettingsError(f"meaning is {self.meaning!r}; give 'full_softmax' or 'renormalised'")
        if self.finish not in ("any", "width"):
            raise SettingsError(f"finish is {self.finish!r}; give 'any' or 'width'")
