"""A small network that ranks what a mixture of lanes found, learnt on questions with known right answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from genrail.rng import generator

__all__ = ["EPOCHS", "Ranker", "can_learn", "learn_rankers"]

Float = npt.NDArray[np.floating[Any]]
Row = tuple[float, ...]

HIDDEN = 16
EPOCHS = (3, 6, 12, 24)  # to choose from: more questions bear more of them
BATCH = 64
RATE = 0.002
DECAY = 0.1  # of the weights, per unit of RATE: a few thousand questions are little
DROPOUT = 0.2
START = 5.0  # what a mixture's sum, about 0 to 3, counts before anything is learnt


@dataclass(frozen=True)
class Ranker:
    """Correct a mixture's sum by what else is known of question and candidate.

    Args:
        scale: What the mixture's sum counts.
        mean: Of each input, where it was learnt.
        spread: Standard deviation of each input.
        hidden: Weights of the hidden layer, one row for each input.
        bias: Of the hidden layer.
        out: Weights of the hidden units in the score.
    """

    scale: float
    mean: Row
    spread: Row
    hidden: tuple[Row, ...]
    bias: Row
    out: Row

    @cached_property
    def _arrays(self) -> list[Float]:
        return [np.array(one) for one in (self.mean, self.spread, self.hidden, self.bias, self.out)]

    def scores(self, inputs: Float, sums: Float) -> npt.NDArray[np.float64]:
        """Score the candidates of one question, shape (n,).

        Args:
            inputs: What is known of each candidate, (n, inputs).
            sums: Of the mixture, (n,).
        """
        mean, spread, hidden, bias, out = self._arrays
        found: npt.NDArray[np.float64] = (
            self.scale * sums + np.maximum((inputs - mean) / spread @ hidden + bias, 0.0) @ out
        )
        return found

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `dataclasses.asdict` gave, perhaps by way of JSON."""
        rows = {name: tuple(values[name]) for name in ("mean", "spread", "bias", "out")}
        return cls(scale=float(values["scale"]), hidden=tuple(tuple(row) for row in values["hidden"]), **rows)


def can_learn() -> bool:
    """Tell whether torch is installed, which rankers are learnt with; they answer without it."""
    return find_spec("torch") is not None


def learn_rankers(
    inputs: Float, sums: Float, gains: Float, real: npt.NDArray[np.bool_], seed: int, most: int = EPOCHS[-1]
) -> Iterator[Ranker]:
    """Learn a listwise ranker: the softmax over a question's candidates is drawn towards the right ones.

    Args:
        inputs: What is known of each candidate, (questions, n, inputs).
        sums: Of the mixture, (questions, n).
        gains: Of each candidate, 0 where it is not judged, (questions, n). Questions without any say nothing.
        real: Which places hold a candidate, (questions, n).
        seed: Of the first weights and the order.
        most: Epochs to learn for.

    Yields:
        The ranker after each number of epochs of `EPOCHS` up to `most`.

    Source: Cao et al. 2007, ListNet (top-one probabilities).

    Cost: seconds for some thousand questions of a few hundred candidates.
    """
    import torch

    telling = gains.sum(axis=1) > 0.0
    known, kept = inputs[telling], real[telling]
    mean, spread = known[kept].mean(axis=0), known[kept].std(axis=0) + 1e-6
    drawn = torch.Generator().manual_seed(int(generator(seed, "ranker").integers(2**31)))
    x = torch.from_numpy(((known - mean) / spread).astype(np.float32))
    base = torch.from_numpy(sums[telling].astype(np.float32))
    absent = torch.from_numpy(~kept)
    target = torch.from_numpy((gains[telling] / gains[telling].sum(axis=1, keepdims=True)).astype(np.float32))
    hidden = (torch.randn(x.shape[-1], HIDDEN, generator=drawn) / x.shape[-1] ** 0.5).requires_grad_()
    bias, out = torch.zeros(HIDDEN, requires_grad=True), torch.zeros(HIDDEN, requires_grad=True)
    scale = torch.tensor(START, requires_grad=True)
    optimizer = torch.optim.AdamW([hidden, bias, out, scale], lr=RATE, weight_decay=DECAY)
    for epoch in range(1, most + 1):
        for chosen in torch.split(torch.randperm(len(x), generator=drawn), BATCH):
            units = torch.relu(x[chosen] @ hidden + bias)
            lives = (torch.rand(units.shape, generator=drawn) >= DROPOUT) / (1.0 - DROPOUT)
            scores = (scale * base[chosen] + (units * lives) @ out).masked_fill(absent[chosen], -1e9)
            loss = -(target[chosen] * torch.log_softmax(scores, dim=1)).sum(dim=1).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        if epoch in EPOCHS:
            tensors = (hidden, bias, out)
            yield _ranker(float(scale.detach()), mean, spread, *(one.detach().numpy() for one in tensors))


def _ranker(scale: float, mean: Float, spread: Float, hidden: Float, bias: Float, out: Float) -> Ranker:
    rows = [tuple(one.astype(np.float64).tolist()) for one in (mean, spread, bias, out)]
    weights = tuple(tuple(row) for row in hidden.astype(np.float64).tolist())
    return Ranker(scale, rows[0], rows[1], weights, rows[2], rows[3])
