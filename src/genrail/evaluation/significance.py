"""Tell a difference from noise: paired bootstrap intervals, paired randomisation tests, Holm's correction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from genrail.errors import SettingsError, ShapeError
from genrail.rng import generator
from genrail.types import Json

__all__ = [
    "NO_DIFFERENCE",
    "Interval",
    "PairedTest",
    "bootstrap_interval",
    "holm",
    "paired_test",
    "paired_tests",
    "randomisation_test",
]

NO_DIFFERENCE = "no difference shown"

SAMPLES = 10_000  # a p-value near 0.05 is then known to +-0.002
EXACT_UP_TO = 12  # so many non-zero differences have 4,096 sign patterns: all are tried
CELLS_AT_ONCE = 4_000_000  # 32 MB of counts per block of resamples


@dataclass(frozen=True)
class Interval:
    """Hold a mean with its interval; `low` and `high` are None where one query gives no spread to judge by."""

    mean: float
    low: float | None
    high: float | None
    level: float = 0.95

    def to_dict(self) -> dict[str, Json]:
        """Turn the interval into plain values for JSON."""
        return {"mean": self.mean, "low": self.low, "high": self.high, "level": self.level}

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.mean:+.4f} (one query: no interval)"
        return f"{self.mean:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


@dataclass(frozen=True)
class PairedTest:
    """Hold the comparison of two methods on the same queries.

    Args:
        difference: Mean of first minus second, with its bootstrap interval at the level at which the p-value was
            corrected; zero lies strictly inside it only where no difference is shown.
        p: Two-sided p-value of the randomisation test.
        adjusted_p: The same after Holm's correction over the family of comparisons; equal to p for a single one.
        queries: How many queries were compared.
        wins: Queries where the first is better.
        losses: Queries where the second is better.
        alpha: The error rate at which a difference is called one.
    """

    difference: Interval
    p: float
    adjusted_p: float
    queries: int
    wins: int
    losses: int
    alpha: float = 0.05

    @property
    def verdict(self) -> str:
        """Say "better", "worse" or "no difference shown", about the first method."""
        if self.adjusted_p >= self.alpha or self.difference.mean == 0.0:
            return NO_DIFFERENCE
        return "better" if self.difference.mean > 0 else "worse"

    def to_dict(self) -> dict[str, Json]:
        """Turn the test into plain values for JSON."""
        return {
            "difference": self.difference.to_dict(),
            "p": self.p,
            "adjusted_p": self.adjusted_p,
            "queries": self.queries,
            "wins": self.wins,
            "losses": self.losses,
            "verdict": self.verdict,
        }


def bootstrap_interval(values: npt.ArrayLike, seed: int = 0, samples: int = SAMPLES, level: float = 0.95) -> Interval:
    """Bound the mean of one value per query, by resampling the queries.

    Args:
        values: One value per query, or one paired difference per query, shape (queries,).
        seed: The resamples are the same for the same seed.
        samples: Number of resamples.
        level: Share of the resampled means inside the percentile interval.

    Cost: O(samples x distinct values), since equal values are drawn together.
    Source: Efron 1979; for retrieval Sakai 2006, Evaluating Evaluation Metrics Based on the Bootstrap.

    >>> interval = bootstrap_interval([0.0, 1.0] * 50)
    >>> interval.mean, 0.35 < interval.low < 0.45, 0.55 < interval.high < 0.65
    (0.5, True, True)
    """
    numbers = _vector(values)
    _check(samples, level)
    if len(numbers) < 2:
        return Interval(float(numbers.mean()), None, None, level)
    distinct, counts = np.unique(numbers, return_counts=True)
    random = generator(seed, "bootstrap")
    means = np.concatenate(
        [
            random.multinomial(len(numbers), counts / len(numbers), size=block) @ distinct / len(numbers)
            for block in _blocks(samples, len(distinct))
        ]
    )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(numbers.mean()), float(low), float(high), level)


def randomisation_test(first: npt.ArrayLike, second: npt.ArrayLike, seed: int = 0, samples: int = SAMPLES) -> float:
    """Give the two-sided p-value of "the two methods could be swapped on every query".

    Up to 12 non-zero differences are tested exactly, more by drawn sign patterns.

    Args:
        first: One value per query, shape (queries,).
        second: The other method's values on the same queries.
        seed: The draws are the same for the same seed.
        samples: Number of drawn sign patterns.

    Returns:
        At least 1 / (samples + 1), or 2 / 2^n where exact; 1.0 when no query differs.

    Source: Fisher 1935; for retrieval Smucker, Allan, Carterette 2007.

    >>> randomisation_test([1.0, 0.5], [1.0, 0.5])
    1.0
    """
    differences = _differences(first, second)
    _check(samples, 0.95)
    nonzero = np.abs(differences[differences != 0.0])
    if not len(nonzero):
        return 1.0
    # 1e-12: sums of the same numbers in another order must count as equal, not as smaller.
    observed = abs(float(differences.sum())) * (1 - 1e-12) - 1e-12
    if len(nonzero) <= EXACT_UP_TO:
        patterns = (np.arange(2 ** len(nonzero))[:, None] >> np.arange(len(nonzero))) & 1  # (2^n, n)
        return float(np.mean(np.abs((2.0 * patterns - 1.0) @ nonzero) >= observed))
    distinct, counts = np.unique(nonzero, return_counts=True)
    random = generator(seed, "randomisation")
    as_large = 0
    for block in _blocks(samples, len(distinct)):
        positive = random.binomial(counts, 0.5, size=(block, len(distinct)))  # of each size, how many keep a plus
        as_large += int(np.sum(np.abs((2.0 * positive - counts) @ distinct) >= observed))
    return (1 + as_large) / (1 + samples)


def paired_test(
    first: npt.ArrayLike, second: npt.ArrayLike, seed: int = 0, samples: int = SAMPLES, alpha: float = 0.05
) -> PairedTest:
    """Compare two methods on the same queries: difference, interval, p-value, wins and losses.

    Raises:
        ShapeError: The methods were not measured on the same number of queries.

    >>> paired_test([0.2, 0.9], [0.2, 0.9]).verdict
    'no difference shown'
    """
    differences = _differences(first, second)
    p = randomisation_test(first, second, seed=seed, samples=samples)
    interval = bootstrap_interval(differences, seed=seed, samples=samples, level=1 - alpha)
    return PairedTest(
        difference=_agreeing(interval, p < alpha),
        p=p,
        adjusted_p=p,
        queries=len(differences),
        wins=int(np.sum(differences > 0)),
        losses=int(np.sum(differences < 0)),
        alpha=alpha,
    )


def paired_tests(
    values: Mapping[str, npt.ArrayLike],
    reference: npt.ArrayLike,
    seed: int = 0,
    samples: int = SAMPLES,
    alpha: float = 0.05,
) -> dict[str, PairedTest]:
    """Compare several methods with one, corrected by Holm over these comparisons.

    The correction multiplies a p-value, which is the same as testing at alpha divided by that factor. The interval
    beside it has this stricter level, so that it excludes zero where a difference is shown and holds it where none is.

    >>> same = [0.0, 0.5] * 20
    >>> tests = paired_tests({"a": [each + 0.1 for each in same], "b": same}, same)
    >>> tests["a"].verdict, tests["a"].difference.level, tests["b"].verdict
    ('better', 0.975, 'no difference shown')
    """
    found = {name: paired_test(each, reference, seed, samples, alpha) for name, each in values.items()}
    adjusted = holm([test.p for test in found.values()])
    return {
        name: replace(
            test,
            adjusted_p=p,
            difference=_agreeing(
                bootstrap_interval(_differences(values[name], reference), seed, samples, 1 - alpha * test.p / p),
                p < alpha,
            ),
        )
        for (name, test), p in zip(found.items(), adjusted, strict=True)
    }


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for the number of comparisons, in their order.

    Source: Holm 1979. The chance of even one false "better" in the family stays below alpha.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda at: p_values[at])):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _agreeing(interval: Interval, shown: bool) -> Interval:
    """End an interval at zero where it contradicts the test: the two differ a little at the edge."""
    if interval.low is None or interval.high is None:
        return interval
    if not shown:
        return replace(interval, low=min(interval.low, 0.0), high=max(interval.high, 0.0))
    if interval.mean > 0:
        return replace(interval, low=max(interval.low, 0.0))
    return replace(interval, high=min(interval.high, 0.0))


def _differences(first: npt.ArrayLike, second: npt.ArrayLike) -> npt.NDArray[np.float64]:
    left, right = _vector(first), _vector(second)
    if len(left) != len(right):
        raise ShapeError(
            f"the first method has {len(left)} values but the second {len(right)}; measure both on the same queries"
        )
    return left - right


def _vector(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or not len(numbers) or not np.isfinite(numbers).all():
        raise ShapeError(f"expected one finite value per query and at least one, found shape {numbers.shape}")
    return numbers


def _check(samples: int, level: float) -> None:
    if samples < 1 or not 0 < level < 1:
        raise SettingsError(f"samples is {samples} and level {level}; give samples >= 1 and 0 < level < 1")


def _blocks(samples: int, width: int) -> list[int]:
    size = max(1, CELLS_AT_ONCE // max(width, 1))
    return [min(size, samples - start) for start in range(0, samples, size)]
