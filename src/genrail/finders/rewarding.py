"""A taught language model learns from what the items are worth that it writes: GRPO, rollouts on the rails."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from genrail.constraints.compressed import CompressedTrie
from genrail.decoding import BeamSettings
from genrail.decoding.sampling import SampleSettings, sample_search
from genrail.finding import FindOptions, Request
from genrail.training.fine_tuning import Reader
from genrail.training.grpo import Rewarded
from genrail.training.packing import Answers, TrainingExample, packed
from genrail.training.rails import Branchings, hidden_states
from genrail.training.rewards import Reward, Rollouts, liked_of, side_by_side

if TYPE_CHECKING:
    from genrail.finders.generative import Generative
    from genrail.training.fine_tuning_settings import FineTuning

__all__ = ["LanguageCase", "RewardedWriter"]

Int = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LanguageCase:
    """Hold a request as a language model reads it, and what is right for it.

    Args:
        prompt: Tokens.
        request: The same for the finder: it says which items may be written.
        rows: The right items, or those that a teacher lists.
        shares: How much each counts.
    """

    prompt: Sequence[int]
    request: Request
    rows: tuple[int, ...]
    shares: tuple[float, ...]

    def __repr__(self) -> str:
        known = dict(zip(self.rows, self.shares, strict=True))
        return f"LanguageCase({list(self.prompt)}, {known}, without {self.request.excluded.tolist()})"


class RewardedWriter(Rewarded[LanguageCase]):
    """Let a language model write items on its rails, and learn from it.

    Args:
        student: The finder whose model learns.
        reader: Its weights.
        reference: The model that it is held to.
        trie: The identifiers, in tokens of the whole vocabulary.
        cases: To learn from.
        tuning: How.
        reward: What each item is worth.
        vectors: Of the items' texts, for rewards that look at them, (items, dimensions).
        held: Requests to validate on.
        validate: Measures the finder as it stands.
        seed: Of batches and draws.

    Attributes:
        answers: The identifiers of items, and the branchings on the way to each.

    Cost: for each request a search with as many beams as rollouts, and two readings of prompt and rollouts, one of them
    with gradients.
    """

    def __init__(
        self,
        student: Generative,
        reader: Reader,
        reference: Reader,
        trie: CompressedTrie,
        cases: Sequence[LanguageCase],
        tuning: FineTuning,
        reward: Reward,
        vectors: npt.NDArray[np.float32],
        held: Sequence[LanguageCase],
        validate: Callable[[], Mapping[str, float]] | None,
        seed: int,
    ) -> None:
        super().__init__(cases, tuning.rewarding, reward, tuning.epoch or len(cases), tuning.batch, seed)
        self._student, self._reader, self._reference = student, reader, reference
        self.answers, self._tuning, self._vectors = Answers(trie), tuning, vectors
        self._held, self._validate = held, validate

    @property
    def module(self) -> nn.Module:
        """Give the weights to train, in place."""
        return self._reader.module

    def written(self, cases: Sequence[LanguageCase], count: int, seeds: Sequence[int] | None = None) -> Rollouts:
        """Let the model write items on the rails, see `Rewarded.written`."""
        student = self._student
        student.spelling.changed()
        requests = [case.request for case in cases]
        contexts = student.spelling.contexts(requests, student.catalog)
        subsets = [student.subset_of(request) for request in requests]
        if seeds is None:
            beam = BeamSettings(width=count, meaning="renormalised")
            answers = student.decode(contexts, subsets, count, FindOptions(decoder=beam))
        else:
            drawn = SampleSettings(self.settings.temperature)
            answers = sample_search(student.spelling.model, contexts, student.index, drawn, subsets, count, seeds)
        liked = liked_of([(case.rows, case.shares) for case in cases])
        return Rollouts(side_by_side([one.rows for one in answers], count), liked[0], self._vectors, liked)

    def log_probabilities(
        self, cases: Sequence[LanguageCase], owner: Int, rows: Int, reference: bool = False
    ) -> Tensor:
        """Read prompts with their rollouts behind them, see `Rewarded.log_probabilities`."""
        reader: Any = self._reference if reference else self._reader
        examples = []
        for place in np.unique(owner).tolist():
            own = rows[owner == place].tolist()
            examples.append(TrainingExample(cases[place].prompt, own, [0.0] * len(own)))
        size = None if reader.sees is None else self._tuning.pack_tokens
        packs = packed(examples, self.answers, size=size, compare=True)
        halved = self._tuning.precision == "bfloat16"
        with torch.autocast(reader.body.device.type, dtype=torch.bfloat16, enabled=halved):
            hidden = hidden_states(reader.body, packs, reader.sees).float()
        return Branchings(hidden, packs, self.answers.trie, reader.output).candidates().whole

    def validate(self) -> Mapping[str, float]:
        """Ask the finder the held-out requests, and add up what its rollouts are worth."""
        if self._validate is None:
            return {}
        figures = self._validate()
        rewards = self.gained(self.written(self._held, self.settings.rollouts))
        return {**figures, "reward": float(np.mean(rewards))}
