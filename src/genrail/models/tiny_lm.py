"""Language models without weights: seeded noise and the uniform distribution, for tests and for trying things out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from genrail.errors import SettingsError
from genrail.models.log_softmax import log_softmax
from genrail.rng import generator
from genrail.types import Json

__all__ = ["NoiseModel", "Prefixes", "UniformModel"]


@dataclass(frozen=True)
class Prefixes:
    """Remember what was written: for each row its context and its tokens."""

    rows: tuple[tuple[int, ...], ...]

    def grown(self, parents: npt.NDArray[np.int64], runs: Sequence[npt.NDArray[np.int64]]) -> tuple[Prefixes, Prefixes]:
        """Append a run of tokens to each parent; give that, and what stands behind each single token of the runs."""
        before = [self.rows[parent] for parent in parents.tolist()]
        after = tuple((*row, *run.tolist()) for row, run in zip(before, runs, strict=True))
        each = (
            row[: len(row) - len(run) + end + 1]
            for row, run in zip(after, runs, strict=True)
            for end in range(len(run))
        )
        return Prefixes(after), Prefixes(tuple(each))

    @staticmethod
    def joined(states: Sequence[Prefixes]) -> tuple[Prefixes, list[int]]:
        """Put the rows of several into one; give it, and the row at which each of them begins."""
        first = np.cumsum([0, *(len(state.rows) for state in states)])[:-1]
        return Prefixes(tuple(row for state in states for row in state.rows)), first.tolist()


class UniformModel:
    """Give every token the same probability.

    A `LanguageModel` whose answers are known: a sequence of n tokens has log-probability ``-n * log(vocab_size)``.

    Args:
        vocab_size: Width of a row of logits, 1 or more.

    Raises:
        SettingsError: vocab_size below 1.

    >>> state, logits = UniformModel(4).prefill([[1, 2]])
    >>> logits.tolist()
    [[0.0, 0.0, 0.0, 0.0]]
    """

    keeps_states = True  # `step` leaves older states usable
    joins_states = True  # `join` puts rows of different length into one state

    def __init__(self, vocab_size: int) -> None:
        if vocab_size < 1:
            raise SettingsError(f"vocab_size is {vocab_size}; give 1 or more")
        self._vocab_size = vocab_size

    @property
    def vocab_size(self) -> int:
        """Give the width of a row of logits."""
        return self._vocab_size

    @property
    def fingerprint(self) -> str:
        """Identify the model: class and settings."""
        return hashlib.sha256(repr(sorted(self.describe().items())).encode()).hexdigest()

    def prefill(self, contexts: Sequence[Sequence[int]]) -> tuple[Prefixes, npt.NDArray[np.float32]]:
        """Read each context, a sequence of whole numbers."""
        # -1 parts the context from what is written, so that ([1], 2) and ([1, 2],) differ.
        state = Prefixes(tuple((*(int(token) for token in context), -1) for context in contexts))
        return state, self._logits(state)

    def step(
        self, state: Prefixes, parents: npt.NDArray[np.int64], tokens: npt.NDArray[np.int64]
    ) -> tuple[Prefixes, npt.NDArray[np.float32]]:
        """Append one token to each row; the old state stays usable."""
        rows = zip(parents.tolist(), tokens.tolist(), strict=True)
        after = Prefixes(tuple((*state.rows[parent], token) for parent, token in rows))
        return after, self._logits(after)

    def join(self, states: Sequence[Prefixes]) -> tuple[Prefixes, list[int]]:
        """Put the rows of several states into one; give it, and the row at which each of them begins."""
        return Prefixes.joined(states)

    def step_tails(
        self,
        state: Prefixes,
        parents: npt.NDArray[np.int64],
        tokens: npt.NDArray[np.int64],
        tails: Sequence[npt.NDArray[np.int64]],
    ) -> tuple[Prefixes, npt.NDArray[np.float32], list[npt.NDArray[np.float64]]]:
        """Append one token to each row and score the tail behind it; state and logits are of the open rows alone."""
        after, logits = self.step(state, parents, tokens)
        scores = [self._tail(row, logits[place], tails[place]) for place, row in enumerate(after.rows)]
        is_open = [place for place, tail in enumerate(tails) if not len(tail)]
        return Prefixes(tuple(after.rows[place] for place in is_open)), logits[is_open], scores

    @property
    def reads_runs(self) -> bool:
        """Tell that the model is a `RunModel`."""
        return True

    def open_runs(self, contexts: Sequence[Sequence[int]]) -> tuple[Prefixes, Prefixes]:
        """Read each context; what was written stands for a hidden state."""
        state, _ = self.prefill(contexts)
        return state, state

    def read_runs(
        self, state: Prefixes, parents: npt.NDArray[np.int64], runs: Sequence[npt.NDArray[np.int64]]
    ) -> tuple[Prefixes, Prefixes]:
        """Append several tokens to each row."""
        return state.grown(parents, runs)

    def logits_of(
        self, hidden: Prefixes, rows: npt.NDArray[np.int64], tokens: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        """Give the logit of each token behind what its row has written."""
        known, place = np.unique(rows, return_inverse=True)
        return self._logits(Prefixes(tuple(hidden.rows[row] for row in known)))[place, tokens]

    def log_sums(self, hidden: Prefixes, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Give the log-sum-exp behind what some rows have written."""
        logits = self._logits(Prefixes(tuple(hidden.rows[row] for row in rows))).astype(np.float64)
        values = np.where(np.isnan(logits), -np.inf, logits)
        top = values.max(axis=1)
        safe = np.where(np.isfinite(top), top, 0.0)
        with np.errstate(divide="ignore", over="ignore"):
            sums: npt.NDArray[np.float64] = safe + np.log(np.exp(values - safe[:, None]).sum(axis=1))
        return sums

    def _tail(
        self, row: tuple[int, ...], logits: npt.NDArray[np.float32], tail: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        prefixes = Prefixes(tuple((*row, *tail[:end].tolist()) for end in range(1, len(tail))))
        table = np.concatenate([logits[None], self._logits(prefixes)])[: len(tail)]
        return log_softmax(table)[np.arange(len(tail)), tail]

    def describe(self) -> dict[str, Json]:
        """Give name and settings."""
        return {"model": type(self).__name__, "vocab_size": self._vocab_size, "parameters": 0}

    def _logits(self, state: Prefixes) -> npt.NDArray[np.float32]:
        return np.zeros((len(state.rows), self._vocab_size), dtype=np.float32)


class NoiseModel(UniformModel):
    """Give normally distributed logits that depend on everything written so far, and on the seed.

    The logits of a row are a function of its own context and tokens alone, to the last bit, so batches cannot matter.

    Args:
        vocab_size: Width of a row of logits, 1 or more.
        seed: Two seeds are two models.
        sharpness: Standard deviation of the logits; 0 is the uniform model, 10 nearly greedy.

    Cost: one draw of vocab_size normal numbers for each row of each step.

    >>> model = NoiseModel(vocab_size=5, seed=1)
    >>> state, logits = model.prefill([[7], [7], [8]])
    >>> bool((logits[0] == logits[1]).all()), bool((logits[0] == logits[2]).all())
    (True, False)
    """

    def __init__(self, vocab_size: int, seed: int = 0, sharpness: float = 2.0) -> None:
        super().__init__(vocab_size)
        self._seed = seed
        self._sharpness = sharpness

    def describe(self) -> dict[str, Json]:
        """Give name and settings."""
        return {**super().describe(), "seed": self._seed, "sharpness": self._sharpness}

    def _logits(self, state: Prefixes) -> npt.NDArray[np.float32]:
        logits = super()._logits(state)
        for place, row in enumerate(state.rows):
            logits[place] = self._sharpness * generator(self._seed, "logits", *row).standard_normal(self._vocab_size)
        return logits
