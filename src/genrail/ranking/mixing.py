"""How the lanes of a fused engine are put together: features of what each lane said, and weights for them.

Each lane says two things of a candidate: its place (reciprocal rank), and its score, on a scale that is the same for
all questions. A mixture is a weighted sum of both over all lanes; the weights add up to 1, so the sum lies in 0 to 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from genrail.ranking.weights import GradedShares, ascend
from genrail.rng import generator

__all__ = ["CONSTANT", "Answers", "Mixture", "features", "learn_mixture"]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

CONSTANT = 60  # of reciprocal rank fusion (Cormack et al. 2009)
FEATURES = 2  # of each lane: place and score
EVIDENCE = 50  # questions at which what was learnt counts as much as the prior
FOLDS = 2


@dataclass(frozen=True, eq=False)
class Answers:
    """Hold what lanes said about the candidates of one question.

    Args:
        rows: Of the candidates, ascending, shape (n,).
        places: Rank of each candidate in each lane, from 1; 0 where the lane did not list it, (lanes, n).
        scores: Likewise its score, NaN where the lane has none, (lanes, n).
    """

    rows: Int
    places: Int
    scores: Float


@dataclass(frozen=True)
class Mixture:
    """Say how much each lane counts for one kind of question.

    Args:
        lanes: Names, in order.
        place: Weight of each lane's reciprocal rank.
        score: Weight of each lane's score.
        typical: What each lane's best score is worth on average: scores are divided by it, and cut at 1.
        questions: How many were learnt from; 0 for the prior.
        figures: nDCG@10 on questions that the weights were not learnt on: each lane alone, `prior`, and `mixture`.
    """

    lanes: tuple[str, ...]
    place: tuple[float, ...]
    score: tuple[float, ...]
    typical: tuple[float, ...]
    questions: int = 0
    figures: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def prior(cls, weights: Mapping[str, float]) -> Self:
        """Fuse by reciprocal ranks with given weights."""
        total = sum(weights.values()) or 1.0
        names = tuple(weights)
        none = (0.0,) * len(names)
        return cls(names, tuple(weights[name] / total for name in names), none, (1.0,) * len(names))

    def only(self, names: Sequence[str]) -> Mixture:
        """Take some lanes; equal ones where none of these counts."""
        kept = [self.lanes.index(name) for name in names]
        total = sum(self.place[one] + self.score[one] for one in kept)
        if total <= 0.0:
            return Mixture.prior(dict.fromkeys(names, 1.0))
        return Mixture(
            tuple(names),
            tuple(self.place[one] / total for one in kept),
            tuple(self.score[one] / total for one in kept),
            tuple(self.typical[one] for one in kept),
        )

    @property
    def asked(self) -> tuple[str, ...]:
        """Name the lanes that count."""
        return tuple(
            name
            for name, place, score in zip(self.lanes, self.place, self.score, strict=True)
            if place > 0.0 or score > 0.0
        )

    def fused(self, answers: Answers) -> Float:
        """Score the candidates of one question, 0 to 1, shape (n,)."""
        weights = np.array([*self.place, *self.score])
        found: Float = features(answers, np.array(self.typical)) @ weights
        return found

    def to_dict(self) -> dict[str, Any]:
        """Turn the mixture into plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` gave, perhaps by way of JSON."""
        given: dict[str, Any] = {name: tuple(one) if isinstance(one, list) else one for name, one in values.items()}
        return cls(**given)


def features(answers: Answers, typical: Float) -> Float:
    """Lay out what the lanes said: reciprocal ranks of all lanes, then scores of all lanes, each 0 to 1, (n, 2 lanes).

    A lane that lists no candidate, or gives all the same score, says nothing.
    """
    listed = answers.places > 0
    places = np.where(listed, (CONSTANT + 1.0) / (CONSTANT + np.maximum(answers.places, 1)), 0.0)
    scores = np.clip(np.nan_to_num(answers.scores, nan=0.0) / typical[:, None], 0.0, 1.0)
    return np.concatenate([places, scores]).T


def learn_mixture(
    prior: Mixture,
    questions: Sequence[Answers],
    grades: Sequence[Mapping[int, float]],
    *,
    cutoff: int = 10,
    seed: int = 0,
) -> Mixture:
    """Learn weights on questions with known right answers, as far as the evidence goes.

    Weights are climbed to (`ascend`) on one half of the questions and measured on the other, and the other way round.
    What was learnt on all of them is then mixed with the prior by the number of questions. Whatever did best on
    questions that it was not learnt on is taken: this, the prior, or a single lane.

    Args:
        prior: What is used without evidence.
        questions: What the lanes said.
        grades: Row to grade for each question; a grade above 0 is right.
        cutoff: Of the nDCG that is to be high.
        seed: Of the halves.

    Returns:
        The mixture, with its figures.
    """
    lanes = len(prior.lanes)
    typical = _typical(questions, lanes)
    shares = _shares(questions, grades, typical, cutoff)
    start = np.array([*prior.place, *([0.0] * lanes)])
    held_out = np.zeros(len(questions))
    shrunk = len(questions) / (len(questions) + EVIDENCE)
    folds = generator(seed, "mixture", "folds").permutation(len(questions)) % FOLDS
    for fold in range(FOLDS):
        learnt = _climbed(_part(shares, folds != fold), start)
        tested = _part(shares, folds == fold)
        held_out[folds == fold] = tested.by_query(_between(start, learnt, shrunk))
    figures = {"prior": shares.ndcg(start), "mixture": float(held_out.mean())}
    alone = {}
    for number, name in enumerate(prior.lanes):
        single = np.zeros(FEATURES * lanes)
        single[number] = 1.0
        figures[name], alone[name] = shares.ndcg(single), single
    best = max(alone, key=lambda name: figures[name])
    weights = _between(start, _climbed(shares, start), shrunk)
    if figures["prior"] >= figures["mixture"]:
        weights = start
    if figures[best] > max(figures["prior"], figures["mixture"]):
        weights = _between(start, alone[best], 0.9)  # the others order what the best lane does not list
    place, score = tuple(weights[:lanes].tolist()), tuple(weights[lanes:].tolist())
    return Mixture(prior.lanes, place, score, tuple(typical.tolist()), len(questions), figures)


def _between(start: Float, learnt: Float, share: float) -> Float:
    mixed: Float = (1.0 - share) * start + share * learnt
    return mixed


def _climbed(shares: GradedShares, start: Float) -> Float:
    weights, _ = ascend(shares, start)
    return weights


def _typical(questions: Sequence[Answers], lanes: int) -> Float:
    """Average each lane's best score over the questions."""
    best = [np.nan_to_num(one.scores, nan=0.0).max(axis=1, initial=0.0) for one in questions]
    mean = np.mean(best, axis=0) if best else np.ones(lanes)
    return np.where(mean > 0.0, mean, 1.0)


def _shares(
    questions: Sequence[Answers], grades: Sequence[Mapping[int, float]], typical: Float, cutoff: int
) -> GradedShares:
    width = max(cutoff, 1, *(len(one.rows) for one in questions))
    values = np.zeros((len(questions), width, FEATURES * len(typical)), dtype=np.float32)
    gains = np.zeros((len(questions), width), dtype=np.float32)
    real = np.zeros((len(questions), width), dtype=np.bool_)
    ideal = np.zeros(len(questions))
    for number, (one, grade) in enumerate(zip(questions, grades, strict=True)):
        count = len(one.rows)
        real[number, :count] = True
        values[number, :count] = features(one, typical)
        gains[number, :count] = [max(grade.get(row, 0.0), 0.0) for row in one.rows.tolist()]
        best = np.sort(np.maximum(list(grade.values()), 0.0))[::-1][:cutoff]
        ideal[number] = max(float((best / np.log2(np.arange(len(best)) + 2.0)).sum()), 1e-12)
    return GradedShares(values, gains, real, ideal, np.ones(len(questions)), cutoff)


def _part(shares: GradedShares, chosen: npt.NDArray[np.bool_]) -> GradedShares:
    return GradedShares(
        shares.values[chosen],
        shares.gains[chosen],
        shares.real[chosen],
        shares.ideal[chosen],
        shares.counts[chosen],
        shares.cutoff,
    )
