"""How sure a score is: bootstrap over problems, and exact tests of two models on the same ones.

Axis legend: N problems, R resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

RESAMPLES = 10_000
CONFIDENCE = 0.95
_AT_A_TIME = 1_000_000
"""Most numbers that are drawn at once: 8 MB."""


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


def bootstrap_interval(
    values: Sequence[float],
    *,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """Percentile interval of the mean of `values`, one a problem, drawn with replacement.

    It tells how the score would move with other problems of the same kind, not with other samples
    of the same answers. The same seed gives the same interval. (Efron, 1979.)

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("there is no interval of no values")
    means_R = _resampled_means(np.asarray(values, np.float64), resamples, seed)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means_R, [tail, 1.0 - tail])
    return Interval(float(low), float(high))


def _resampled_means(
    values_N: NDArray[np.float64], resamples: int, seed: int
) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    rows = max(1, _AT_A_TIME // len(values_N))
    means: list[NDArray[np.float64]] = []
    for start in range(0, resamples, rows):
        shape = (min(rows, resamples - start), len(values_N))
        means.append(values_N[rng.integers(len(values_N), size=shape)].mean(axis=1))
    return np.concatenate(means)


@dataclass(frozen=True, slots=True)
class PairedTest:
    """Two models on the same problems, second minus first."""

    problems: int
    first: float
    """Mean score of the first."""
    second: float
    difference: float
    interval: Interval
    """Of the difference, by paired bootstrap over problems."""
    first_better: int
    """Problems on which the first scored higher."""
    second_better: int
    p_value: float
    """Two-sided; see `sign_test`."""
    test: str
    """`McNemar, exact` where each score is 0 or 1, else `sign test`."""


def paired_test(first: Sequence[float], second: Sequence[float], *, seed: int = 0) -> PairedTest:
    """Compare the scores of two models, in the order of the same problems.

    Raises:
        ValueError: there are none, or not as many of one as of the other.
    """
    differences = [b - a for a, b in zip(first, second, strict=True)]
    binary = {*first, *second} <= {0.0, 1.0}
    first_better = sum(d < 0 for d in differences)
    second_better = sum(d > 0 for d in differences)
    return PairedTest(
        problems=len(differences),
        first=fmean(first),
        second=fmean(second),
        difference=fmean(differences),
        interval=bootstrap_interval(differences, seed=seed),
        first_better=first_better,
        second_better=second_better,
        p_value=sign_test(first_better, second_better),
        test="McNemar, exact" if binary else "sign test",
    )


def sign_test(first_better: int, second_better: int) -> float:
    """Two-sided p-value of so uneven a split under a fair coin, ties left out; 1 without any.

    p = P(|X - n/2| >= |b - n/2|) for X ~ Binomial(n, 1/2), n = first_better + second_better. Where
    scores are 0 or 1 this is McNemar's exact test on the discordant pairs.
    """
    discordant = first_better + second_better
    return float(binomtest(second_better, discordant).pvalue) if discordant else 1.0
