"""How the lanes of a fused engine are put together: features of what each lane said, and weights for them.

Each lane says three things of a candidate: how far its score stands out among the candidates of this question
(standard deviations above their mean), its score on a scale that is the same for all questions, and its place. A
mixture is a weighted sum of these over all lanes.

Where nothing has been learnt, the first alone counts, with equal weights: a lane then counts by how clearly it tells an
item from the other good ones, whatever its unit, and no data set was needed to choose a constant. Over five sets it is
ahead of reciprocal ranks, which throw these distances away (docs/results.md; Bruch, Gai, Ingber 2023).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from genrail.errors import ShapeError
from genrail.evaluation.significance import bootstrap_interval
from genrail.ranking.ranker import EPOCHS, Ranker, can_learn, learn_rankers
from genrail.ranking.weights import GradedShares, ascend
from genrail.rng import generator
from genrail.types import Json

__all__ = ["CONSTANT", "Answers", "Mixture", "features", "learn_mixture", "logistic", "squashed", "standardise"]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

CONSTANT = 60  # of reciprocal rank fusion (Cormack et al. 2009)
EVIDENCE = 50  # questions at which what was learnt counts as much as the prior
FOLDS = 2
RANKER_FOLDS = 4
RANKED = 300  # questions below which no ranker is tried
TINY = 1e-12  # standard deviations below this times the largest score are rounding, not evidence
LEAST = 20  # questions below which the scale of scores stays as it is


@dataclass(frozen=True, eq=False)
class Answers:
    """Hold what lanes said about the candidates of one question.

    Args:
        rows: Of the candidates, ascending, shape (n,).
        places: Rank of each candidate in each lane, from 1; 0 where the lane did not list it, (lanes, n).
        scores: Likewise its score, NaN where the lane has none, (lanes, n).
        context: What else is known of each candidate for this question, (n, any), for a ranker; None for nothing.
    """

    rows: Int
    places: Int
    scores: Float
    context: Float | None = None


@dataclass(frozen=True)
class Mixture:
    """Say how much each lane counts for one kind of question.

    Args:
        lanes: Names, in order.
        standing: Weight of how far each lane's score stands out among the candidates.
        score: Weight of each lane's score.
        place: Weight of each lane's reciprocal rank. All weights add up to 1.
        typical: What each lane's best score is worth on average: scores are divided by it, and cut at 1.
        slope: With `offset`, turns the sum into the chance of being right, where that was learnt.
        offset: See `slope`.
        questions: How many were learnt from; 0 for the prior.
        figures: nDCG@10 on questions that were not learnt from: each lane alone, `prior`, `mixture`, `ranker`.
        ranker: Corrects the sum, where that was better on such questions.
    """

    lanes: tuple[str, ...]
    standing: tuple[float, ...]
    score: tuple[float, ...]
    place: tuple[float, ...]
    typical: tuple[float, ...]
    slope: float = 1.0
    offset: float = 0.0
    questions: int = 0
    figures: Mapping[str, float] = field(default_factory=dict)
    ranker: Ranker | None = None

    @classmethod
    def prior(cls, weights: Mapping[str, float]) -> Self:
        """Fuse by how far scores stand out, with given weights."""
        total = sum(weights.values()) or 1.0
        none = (0.0,) * len(weights)
        standing = tuple(weight / total for weight in weights.values())
        return cls(tuple(weights), standing, none, none, (1.0,) * len(weights))

    @property
    def weights(self) -> Float:
        """Give all weights one after the other, as `features` lays them out, shape (3 lanes,)."""
        return np.array([*self.standing, *self.score, *self.place])

    def only(self, names: Sequence[str]) -> Mixture:
        """Take some lanes, without a ranker; equal ones where none of these counts."""
        kept = [self.lanes.index(name) for name in names if name in self.lanes]
        total = sum(self.standing[one] + self.score[one] + self.place[one] for one in kept)
        if total <= 0.0 or len(kept) < len(names):
            return Mixture.prior(dict.fromkeys(names, 1.0))
        standing, score, place = (
            tuple(part[one] / total for one in kept) for part in (self.standing, self.score, self.place)
        )
        return Mixture(tuple(names), standing, score, place, tuple(self.typical[one] for one in kept))

    @property
    def asked(self) -> tuple[str, ...]:
        """Name the lanes that count."""
        if self.ranker is not None:
            return self.lanes
        sums = self.weights.reshape(3, -1).sum(axis=0)
        return tuple(name for name, weight in zip(self.lanes, sums.tolist(), strict=True) if weight > 0.0)

    def sums(self, answers: Answers) -> Float:
        """Add up what the lanes said of the candidates of one question, shape (n,)."""
        told = features(answers, np.array(self.typical))
        sums: Float = told @ self.weights
        return sums if self.ranker is None else self.ranker.scores(_inputs(told, answers), sums)

    def to_dict(self) -> dict[str, Json]:
        """Turn the mixture into plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` gave, perhaps by way of JSON."""
        given: dict[str, Any] = {name: tuple(one) if isinstance(one, list) else one for name, one in values.items()}
        ranker = given.get("ranker")
        return cls(**{**given, "ranker": None if ranker is None else Ranker.from_dict(ranker)})


def standardise(scores: Float) -> Float:
    """Bring each lane's scores of one query's candidates to mean 0 and standard deviation 1.

    A missing score counts as the lane's lowest among the candidates: what a lane did not return is no better than what
    it did. A lane that gives all candidates the same score, or none, tells nothing and becomes 0.

    Args:
        scores: (lanes, candidates), NaN where a lane has no score.

    Returns:
        (lanes, candidates), finite.

    Raises:
        ShapeError: Not two dimensions, or an infinite score.

    >>> standardise(np.array([[1.0, 3.0, np.nan], [5.0, 5.0, 5.0]])).round(2).tolist()
    [[-0.71, 1.41, -0.71], [0.0, 0.0, 0.0]]
    """
    if scores.ndim != 2 or np.isinf(scores).any():
        raise ShapeError(
            f"scores have shape {scores.shape}, {int(np.isinf(scores).sum())} of them infinite; "
            "give finite numbers of shape (lanes, candidates), NaN where a lane has none"
        )
    standard = np.zeros(scores.shape)
    for lane, given in zip(standard, scores, strict=True):
        known = ~np.isnan(given)
        if not known.any():
            continue
        largest = np.abs(given[known]).max()
        if largest == 0.0:
            continue
        scaled = np.where(known, given, given[known].min()) / largest  # so that no square overflows
        centred = scaled - scaled.mean()
        deviation = np.sqrt(np.mean(centred**2))
        if deviation > TINY:
            lane[:] = centred / deviation
    return standard


def squashed(values: Float) -> Float:
    """Draw numbers into 0 to 1 by the logistic function.

    >>> squashed(np.array([-1000.0, 0.0])).round(3).tolist()
    [0.0, 0.5]
    """
    drawn: Float = 1.0 / (1.0 + np.exp(-np.clip(values, -30.0, 30.0)))
    return drawn


def features(answers: Answers, typical: Float) -> Float:
    """Lay out what the lanes said: standing of all lanes, then scores, then reciprocal ranks, (n, 3 lanes).

    A lane that lists no candidate, or gives all the same score, says nothing.
    """
    scores = np.clip(np.nan_to_num(answers.scores, nan=0.0) / typical[:, None], 0.0, 1.0)
    listed = answers.places > 0
    places = np.where(listed, (CONSTANT + 1.0) / (CONSTANT + np.maximum(answers.places, 1)), 0.0)
    return np.concatenate([standardise(answers.scores), scores, places]).T


def learn_mixture(
    prior: Mixture,
    questions: Sequence[Answers],
    grades: Sequence[Mapping[int, float]],
    *,
    cutoff: int = 10,
    seed: int = 0,
    ranked: bool = True,
) -> Mixture:
    """Learn weights on questions with known right answers, as far as the evidence goes.

    Weights are climbed to (`ascend`) on one half of the questions and measured on the other, and the other way round.
    What was learnt on all of them is then mixed with the prior by the number of questions. Whatever did best on
    questions that it was not learnt on is taken: this, the prior, or a single lane. Three questions teach nothing.

    Args:
        prior: What is used without evidence.
        questions: What the lanes said.
        grades: Row to grade for each question; a grade above 0 is right.
        cutoff: Of the nDCG that is to be high.
        seed: Of the halves.
        ranked: Try a ranker (`genrail.ranking.ranker`) on top of the weights. It is kept where its lead on questions
            that it was not learnt on is above zero with its 95 % interval.

    Returns:
        The mixture, with its figures.

    Cost: some thousand products of all candidates with the weights: ten seconds for 2,000 questions and four lanes.
    """
    if len(questions) < 2 * FOLDS:
        return prior
    typical = _typical(questions, len(prior.lanes))
    shares = _shares(questions, grades, typical, cutoff)
    start, shrunk = prior.weights, len(questions) / (len(questions) + EVIDENCE)
    held_out = np.zeros(len(questions))
    for fold, learning in _folds(len(questions), FOLDS, seed):
        learnt = _climbed(_part(shares, learning), start)
        held_out[fold] = _part(shares, fold).by_query(_between(start, learnt, shrunk))
    figures = {"prior": shares.ndcg(start), "mixture": float(held_out.mean())}
    alone = {name: np.eye(len(start))[number] for number, name in enumerate(prior.lanes)}
    figures |= {name: shares.ndcg(weights) for name, weights in alone.items()}
    best = max(alone, key=lambda name: figures[name])
    if figures[best] > max(figures["prior"], figures["mixture"]):
        weights = _between(start, alone[best], 0.95)  # the others order what the best lane does not tell apart
    elif figures["prior"] >= figures["mixture"]:
        weights = start
    else:
        weights = _between(start, _climbed(shares, start), shrunk)
    ranker, sums = None, shares.sums(weights)
    inputs = _all_inputs(shares, questions)
    if ranked and len(questions) >= RANKED and can_learn():
        ranker, figures["ranker"] = _ranked(shares, inputs, sums, seed)
    if ranker is not None:
        sums = np.stack([ranker.scores(told, one) for told, one in zip(inputs, sums, strict=True)])
    slope, offset = _calibrated(shares, sums)
    standing, score, place = (tuple(part.tolist()) for part in np.split(weights, 3))
    scale = tuple(typical.tolist())
    return Mixture(prior.lanes, standing, score, place, scale, slope, offset, len(questions), figures, ranker)


def _folds(count: int, folds: int, seed: int) -> Iterator[tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]]:
    """Give each fold with the rest, as masks over questions."""
    numbers = generator(seed, "mixture", "folds").permutation(count) % folds
    for fold in range(folds):
        yield numbers == fold, numbers != fold


def _ranked(
    shares: GradedShares, inputs: npt.NDArray[np.float32], sums: npt.NDArray[np.float32], seed: int
) -> tuple[Ranker | None, float]:
    """Learn a ranker, and measure it on questions that it was not learnt on; None where it is not clearly better."""
    scores = np.zeros((len(EPOCHS), *sums.shape))
    for fold, learning in _folds(len(sums), RANKER_FOLDS, seed):
        learnt = learn_rankers(inputs[learning], sums[learning], shares.gains[learning], shares.real[learning], seed)
        for place, ranker in enumerate(learnt):
            scores[place, fold] = [ranker.scores(*one) for one in zip(inputs[fold], sums[fold], strict=True)]
    found = [shares.by_scores(one) for one in scores]
    best = int(np.argmax([one.mean() for one in found]))
    lead = bootstrap_interval(found[best] - shares.by_scores(sums), seed=seed)
    if lead.low is None or lead.low <= 0.0:
        return None, float(found[best].mean())
    *_, ranker = learn_rankers(inputs, sums, shares.gains, shares.real, seed, EPOCHS[best])
    return ranker, float(found[best].mean())


def _inputs(told: npt.NDArray[np.floating], answers: Answers) -> npt.NDArray[np.floating]:
    """Lay out what a ranker reads of each candidate: features, in how many lanes it is, and the context."""
    lanes = (answers.places > 0).mean(axis=0)[:, None]
    return np.concatenate([told, lanes, *([] if answers.context is None else [answers.context])], axis=1)


def _all_inputs(shares: GradedShares, questions: Sequence[Answers]) -> npt.NDArray[np.float32]:
    first = _inputs(shares.values[0, : len(questions[0].rows)], questions[0])
    inputs = np.zeros((*shares.values.shape[:2], first.shape[1]), dtype=np.float32)
    for number, one in enumerate(questions):
        count = len(one.rows)
        inputs[number, :count] = _inputs(shares.values[number, :count], one)
    return inputs


def _calibrated(shares: GradedShares, scores: npt.NDArray[np.floating]) -> tuple[float, float]:
    """Fit the chance that a candidate is right to its score (Platt 1999)."""
    sums = scores[shares.real].astype(np.float64)
    right = (shares.gains > 0)[shares.real]
    if len(shares.counts) < LEAST or not right.any() or right.all():
        return 1.0, 0.0
    [slope], offset = logistic(sums[:, None], right)
    return (float(slope), float(offset)) if slope > 0.0 else (1.0, 0.0)


def logistic(features: Float, right: npt.NDArray[np.bool_], ridge: float = 1.0) -> tuple[tuple[float, ...], float]:
    """Fit weights and constant of a logistic model by Newton's method; features are scaled meanwhile.

    Args:
        features: (n, m).
        right: (n,).
        ridge: Penalty on the squared weights of scaled features, so that weights stay finite.

    >>> weights, bias = logistic(np.array([[-1.0], [-0.5], [0.5], [1.0]]), np.array([False, True, False, True]))
    >>> weights[0] > 0, abs(bias) < 1e-6
    (True, True)
    """
    mean, spread = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-6)
    scaled = np.column_stack([(features - mean) / spread, np.ones(len(features))])
    penalty = np.full(scaled.shape[1], ridge)
    share = np.clip(right.mean(), 1e-6, 1 - 1e-6)
    found = np.zeros(scaled.shape[1])
    found[-1] = np.log(share / (1 - share))
    for _ in range(30):
        chance = 1.0 / (1.0 + np.exp(-np.clip(scaled @ found, -30, 30)))
        slope = scaled.T @ (chance - right) + penalty * found
        curve = (scaled * (chance * (1 - chance))[:, None]).T @ scaled + np.diag(penalty)
        step = np.linalg.solve(curve, slope)
        found = found - step
        if np.abs(step).max() < 1e-8:
            break
    weights = found[:-1] / spread
    return tuple(weights.tolist()), float(found[-1] - weights @ mean)


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
    values = np.zeros((len(questions), width, 3 * len(typical)), dtype=np.float32)
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
