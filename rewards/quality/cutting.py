"""Grades from a reward model's scores, which are real numbers on no known scale."""

from collections.abc import Sequence

import numpy as np

from configs.schema.quality import Cuts
from rewards.quality.chains import Quality


def cut_scores(
    scores: Sequence[float | str], cut_points: Cuts, *, quantiles: bool
) -> list[Quality]:
    """How many of the cut points each score reaches: 0 to 5.

    Args:
        scores: a score, or why there is none.
        cut_points: rising; scores, or with `quantiles` shares of `scores` below them (numpy's
            linear interpolation between neighbours).
    """
    numbers = [score for score in scores if not isinstance(score, str)]
    if not numbers:
        cuts = np.zeros(len(cut_points))
    else:
        cuts = np.quantile(numbers, cut_points) if quantiles else np.array(cut_points)
    return [
        Quality(None, score)
        if isinstance(score, str)
        else Quality(int(np.searchsorted(cuts, score, side="right")), f"score {score:.4g}")
        for score in scores
    ]
