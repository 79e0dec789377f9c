"""The learner's probabilities under top_p, top_k and min_p, worked by hand."""

import math

import pytest
import torch
from torch import nn

from configs.schema.rollout import DistributionConfig
from models.policy.logprobs import OutputLayer
from models.policy.truncation import kept_tokens

NONE = torch.tensor([], dtype=torch.int64)
EIGHTHS = [[4 / 8, 2 / 8, 1 / 8, 1 / 8]]


def kept(probabilities: list[list[float]], **truncation: float) -> list[list[bool]]:
    return kept_tokens(torch.tensor(probabilities).log(), DistributionConfig(**truncation)).tolist()


@pytest.mark.parametrize(
    ("truncation", "left"),
    [
        ({"top_p": 0.4}, [True, False, False, False]),
        ({"top_p": 0.6}, [True, True, False, False]),
        ({"top_k": 1}, [True, False, False, False]),
        ({"top_k": 3}, [True, True, True, True]),  # a tie with the last stays
        ({"top_k": 9}, [True, True, True, True]),
        ({"min_p": 0.4}, [True, True, False, False]),
        ({"min_p": 0.6}, [True, False, False, False]),
        # Of the two that top_k leaves the first has 2/3, more than top_p asks for.
        ({"top_k": 2, "top_p": 0.6}, [True, False, False, False]),
        ({"top_k": 2, "top_p": 0.7}, [True, True, False, False]),
    ],
)
def test_which_tokens_are_left(truncation: dict[str, float], left: list[bool]) -> None:
    assert kept(EIGHTHS, **truncation) == [left]


def test_banned_tokens_are_never_left_and_each_position_is_cut_by_itself() -> None:
    rows = [[0.0, 0.5, 0.5], [0.9, 0.1, 0.0]]
    assert kept(rows, top_k=3) == [[False, True, True], [True, True, False]]
    assert kept(rows, min_p=0.2) == [[False, True, True], [True, False, False]]


def layer(**truncation: float) -> OutputLayer:
    return OutputLayer(nn.Identity(), NONE, DistributionConfig(**truncation), 8)


def test_probabilities_are_renormalised_over_what_is_left_and_so_is_the_gradient() -> None:
    hidden = torch.tensor(EIGHTHS).log().requires_grad_()
    logprobs, entropy, _ = layer(top_k=2).logprobs(hidden, torch.tensor([1]))
    assert logprobs.exp().item() == pytest.approx(1 / 3)
    assert entropy.item() == pytest.approx(math.log(3) - 2 / 3 * math.log(2))
    logprobs.sum().backward()
    # d log p_i / d logit_j = 1[i = j] - p_j among those left; none reaches the others.
    assert hidden.grad is not None
    assert hidden.grad[0].tolist() == pytest.approx([-2 / 3, 2 / 3, 0, 0])


def test_a_token_that_was_drawn_counts_where_the_policy_would_cut_it_now() -> None:
    hidden = torch.tensor(EIGHTHS).log()
    logprobs, _, _ = layer(top_k=1).logprobs(hidden, torch.tensor([2]))
    assert logprobs.exp().item() == pytest.approx(1 / 5)


def test_temperature_comes_before_the_cut() -> None:
    hidden = torch.tensor(EIGHTHS).log()
    cut = OutputLayer(nn.Identity(), NONE, DistributionConfig(temperature=0.5, top_p=0.7), 8)
    # Squared and renormalised: 16, 4, 1, 1 of 22; the first alone has 0.727.
    assert cut.logprobs(hidden, torch.tensor([0]))[0].exp().item() == pytest.approx(1.0)
