"""How long a chain of thought a question deserves: QDAM, VTIA and DRLC (paper, section 2.3).

The paper names the parts of the scores and gives neither scales nor weights. Here each part is in
[0, 1], and a score is the mean of its parts.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from configs.jobs.distill import LengthControlConfig

_HIGH = (
    re.compile(r"\b(why|how)\b(?!\s+(many|much|old|long|far)\b)", re.IGNORECASE),
    re.compile(
        r"\b(left|right|above|below|between|behind|beside|next to|in front of|relative|relation\w*|"
        r"compare|sum|total|add up|difference|angle|parallel|perpendicular)\b",
        re.IGNORECASE,
    ),
    re.compile(
        r"\b(explain|reason|prove|derive|calculate|determine|infer|according to|if .* then)\b",
        re.IGNORECASE,
    ),
)
"""Why and how; several objects and how they stand to each other; scientific reasoning."""
_LOW = (
    re.compile(r"\b(what|where|which|who)\b.{0,40}\bthe\b", re.IGNORECASE),
    re.compile(r"\b(name|identify|color|colour|read|shown|see)\b", re.IGNORECASE),
)
"""What and where with the definite article; an object named."""


def integration_pattern(question: str) -> float:
    """How much `question` ties text and image by its wording, in [0, 1], English only.

    The share of VTIA's high patterns found, less half the share of its low ones, moved to [0, 1].
    """
    high = [bool(pattern.search(question)) for pattern in _HIGH]
    return pattern_score(high, [bool(pattern.search(question)) for pattern in _LOW])


def pattern_score(high: Sequence[bool], low: Sequence[bool]) -> float:
    """VTIA's patterns as a number in [0, 1]: `high` and `low` say which of them are there."""
    return min(1.0, max(0.0, fmean(high) - fmean(low) / 2 + 0.5) / 1.5)


@dataclass(frozen=True, slots=True)
class Measured:
    """What a policy's own answers say of a question, each in [0, 1]."""

    accuracy: float
    """Share of right answers, images seen."""
    accuracy_blind: float
    """Share of right answers without the images."""
    answered: float
    """Share of answers that hold a final answer at all."""
    length: float
    """Mean length of the right answers, or of all where none is right, as a share of the limit."""


@dataclass(frozen=True, slots=True)
class QueryScores:
    """Raw scores of a question; each is scaled over the data before it is used."""

    vision: float
    """Sv: image clarity and image necessity."""
    text: float
    """St: question quality, difficulty, reasoning demand."""
    integration: float
    """SI: how far image and text depend on each other."""


def query_scores(question: str, clarity: float | None, measured: Measured) -> QueryScores:
    """The scores of a question from measurements of the policy itself.

    Sv = mean(clarity, 1 - accuracy_blind), 0 without images; St = mean(answered, 1 - accuracy,
    length); SI = mean(wording, max(0, accuracy - accuracy_blind)), 0 without images.

    Args:
        clarity: of its images, in [0, 1]; None: it has none.
    """
    text = fmean((measured.answered, 1.0 - measured.accuracy, measured.length))
    if clarity is None:
        return QueryScores(0.0, text, 0.0)
    lost = max(0.0, measured.accuracy - measured.accuracy_blind)
    return QueryScores(
        vision=fmean((clarity, 1.0 - measured.accuracy_blind)),
        text=text,
        integration=fmean((integration_pattern(question), lost)),
    )


def min_max(values_N: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values scaled over the data to [0, 1]; all 0.5 where they are all equal."""
    low, high = values_N.min(), values_N.max()
    if low == high:
        return np.full_like(values_N, 0.5)
    return (values_N - low) / (high - low)


def repetition_penalties(
    scores: Sequence[QueryScores], config: LengthControlConfig
) -> NDArray[np.float64]:
    """P of each question, [n], between 1 and `max_penalty` (paper, equation 1).

    P = min(max_penalty, exp(alpha (1 - (Sv + beta St + gamma SI) / (1 + beta + gamma)))), with each
    score scaled over the data: rich or hard questions may think long, easy ones are cut short.
    """
    if config.fixed_penalty is not None:
        return np.full(len(scores), config.fixed_penalty)
    table = np.array([(each.vision, each.text, each.integration) for each in scores])
    vision, text, integration = (min_max(column) for column in table.T)
    total = 1.0 + config.beta + config.gamma
    mean = (vision + config.beta * text + config.gamma * integration) / total
    return np.minimum(config.max_penalty, np.exp(config.alpha * (1.0 - mean)))


def penalty_range(penalties: Sequence[float]) -> dict[str, float]:
    """Mean, least and largest penalty of a data set."""
    return {
        "penalty_mean": fmean(penalties),
        "penalty_min": min(penalties),
        "penalty_max": max(penalties),
    }
