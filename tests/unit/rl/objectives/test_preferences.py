"""MPO's losses and their gradients, by hand."""

import math

import pytest
import torch

from configs.jobs.mpo import PreferenceLossConfig
from rl.objectives.preferences import PREFERENCE_FIGURES, mpo_loss, next_delta

# r = 0.5 (log pi - log pi_0): 0.5 (-2 + 4) = 1 of the chosen, 0.5 (-6 + 2) = -2 of the rejected.
OWN, REFERENCE, TOKENS = [[-2.0, -6.0]], [[-4.0, -2.0]], [4]


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def loss_of(delta: float, *weights: float) -> tuple[float, list[float], dict[str, float]]:
    """The loss of the one pair, its gradient by both logprobs, and its figures."""
    preference, quality, generation = weights
    config = PreferenceLossConfig(
        preference_weight=preference,
        quality_weight=quality,
        generation_weight=generation,
        beta=0.5,
    )
    own = torch.tensor(OWN, requires_grad=True)
    loss, figures = mpo_loss(own, torch.tensor(REFERENCE), torch.tensor(TOKENS), delta, config)
    loss.sum().backward()
    assert tuple(figures) == PREFERENCE_FIGURES
    return loss.item(), own.grad[0].tolist(), {n: v.item() for n, v in figures.items()}


def test_the_preference_loss_is_that_of_dpo() -> None:
    loss, gradient, figures = loss_of(9.0, 1, 0, 0)
    assert loss == pytest.approx(-math.log(sigmoid(3)))
    slope = 0.5 * (1 - sigmoid(3))
    assert gradient == pytest.approx([-slope, slope])
    assert figures["margin"] == pytest.approx(3) and figures["accuracy"] == 1
    assert (figures["chosen_reward"], figures["rejected_reward"]) == pytest.approx((1, -2))


def test_the_quality_loss_is_that_of_bco_and_asks_each_answer_apart() -> None:
    loss, gradient, _ = loss_of(0.25, 0, 1, 0)
    assert loss == pytest.approx(-math.log(sigmoid(0.75)) - math.log(sigmoid(2.25)))
    assert gradient == pytest.approx([-0.5 * (1 - sigmoid(0.75)), 0.5 * (1 - sigmoid(2.25))])


def test_the_generation_loss_is_the_likelihood_of_a_token_of_the_chosen_answer() -> None:
    loss, gradient, _ = loss_of(9.0, 0, 0, 1)
    assert (loss, gradient) == (pytest.approx(2 / 4), pytest.approx([-1 / 4, 0]))


def test_the_whole_is_their_weighted_sum() -> None:
    parts = [loss_of(0.25, *row) for row in ((1, 0, 0), (0, 1, 0), (0, 0, 1))]
    loss, gradient, figures = loss_of(0.25, 0.8, 0.2, 1.0)
    assert loss == pytest.approx(0.8 * parts[0][0] + 0.2 * parts[1][0] + parts[2][0])
    for place in range(2):
        assert gradient[place] == pytest.approx(
            0.8 * parts[0][1][place] + 0.2 * parts[1][1][place] + parts[2][1][place]
        )
    assert figures["preference_loss"] == pytest.approx(parts[0][0])
    assert figures["quality_loss"] == pytest.approx(parts[1][0])
    assert figures["generation_loss"] == pytest.approx(parts[2][0])


def test_a_policy_that_has_not_learned_yet_has_log_2_and_no_preference() -> None:
    same = torch.tensor([[-3.0, -5.0]])
    config = PreferenceLossConfig()
    _, figures = mpo_loss(same, same, torch.tensor([3]), 0.0, config)
    assert figures["preference_loss"].item() == pytest.approx(math.log(2))
    assert figures["quality_loss"].item() == pytest.approx(2 * math.log(2))
    assert figures["accuracy"].item() == 0


def test_delta_moves_by_the_mean_of_both_answers() -> None:
    assert next_delta(0.0, 1.0, -2.0, decay=0.9) == pytest.approx(-0.05)
    assert next_delta(-0.05, 1.0, 1.0, decay=0.9) == pytest.approx(0.055)


def test_defaults_are_those_of_the_model_that_r1v2_cites() -> None:
    config = PreferenceLossConfig()
    weights = (config.preference_weight, config.quality_weight, config.generation_weight)
    assert weights == (0.8, 0.2, 1.0)
