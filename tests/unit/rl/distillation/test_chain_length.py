"""Scores and repetition penalties of questions, worked by hand (paper, section 2.3)."""

from math import exp, log

import numpy as np
import pytest

from configs.jobs.distill import LengthControlConfig
from rl.distillation.chain_length import (
    Measured,
    QueryScores,
    integration_pattern,
    min_max,
    query_scores,
    repetition_penalties,
)

RICH, POOR = QueryScores(1.0, 0.8, 0.6), QueryScores(0.2, 0.0, 0.1)
MIDDLE = QueryScores(0.6, 0.4, 0.1)
"""Scaled over the three: rich 1, 1, 1; poor 0, 0, 0; middle 0.5, 0.5, 0."""


def test_the_penalty_is_equation_1_over_scores_scaled_over_the_data() -> None:
    config = LengthControlConfig(alpha=0.3, beta=2.0, gamma=1.0)
    found = repetition_penalties([RICH, POOR, MIDDLE], config)
    mean = (0.5 + 2.0 * 0.5 + 1.0 * 0.0) / 4.0
    assert found == pytest.approx([1.0, exp(0.3), exp(0.3 * (1.0 - mean))])


def test_the_penalty_is_capped() -> None:
    config = LengthControlConfig(alpha=2 * log(2.0))
    assert repetition_penalties([RICH, POOR], config) == pytest.approx([1.0, 2.0])
    low = config.model_copy(update={"max_penalty": 1.2})
    assert repetition_penalties([RICH, POOR], low) == pytest.approx([1.0, 1.2])


def test_without_alpha_nothing_is_penalised_and_a_fixed_penalty_asks_no_scores() -> None:
    assert repetition_penalties([RICH, POOR], LengthControlConfig(alpha=0.0)) == pytest.approx(1.0)
    fixed = LengthControlConfig(fixed_penalty=1.1)
    assert repetition_penalties([RICH, POOR], fixed) == pytest.approx(1.1)


def test_a_score_that_is_equal_for_all_stands_in_the_middle() -> None:
    assert min_max(np.array([3.0, 3.0])) == pytest.approx([0.5, 0.5])
    assert min_max(np.array([1.0, 3.0, 2.0])) == pytest.approx([0.0, 1.0, 0.5])


def test_scores_are_means_of_what_was_measured() -> None:
    measured = Measured(accuracy=0.75, accuracy_blind=0.25, answered=1.0, length=0.5)
    question = "Why is the angle so?"  # two of three high patterns, none of the low ones
    found = query_scores(question, 0.6, measured)
    assert found.vision == pytest.approx((0.6 + 0.75) / 2)
    assert found.text == pytest.approx((1.0 + 0.25 + 0.5) / 3)
    assert found.integration == pytest.approx((integration_pattern(question) + 0.5) / 2)
    assert integration_pattern(question) == pytest.approx((2 / 3 + 0.5) / 1.5)


def test_a_question_without_images_has_neither_vision_nor_integration() -> None:
    found = query_scores("Why?", None, Measured(1.0, 0.0, 1.0, 0.1))
    assert (found.vision, found.integration) == (0.0, 0.0)


def test_wording_of_high_integration_scores_above_that_of_low() -> None:
    high = integration_pattern("Explain why the left block is heavier than the one behind it.")
    low = integration_pattern("What is the color of the car?")
    assert high > integration_pattern("Prove it.") > low >= 0.0
