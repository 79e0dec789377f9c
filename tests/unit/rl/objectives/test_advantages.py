"""Advantages: by hand, and what may not matter to them."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from configs.schema.loss import KLConfig
from rl.objectives.advantages import ADVANTAGES, Advantages, compute_advantages, rewards_of
from tests.unit.step_samples import scored

NAN = float("nan")
METHODS = ("group_norm", "group_mean")
BY_GROUP = (*METHODS, "rloo")
GROUPS = st.integers(2, 9).flatmap(
    lambda size: st.lists(
        st.lists(
            st.sampled_from([0.0, 0.1, 0.9, 1.0, NAN, NAN]) | st.floats(-5, 5),
            min_size=size,
            max_size=size,
        ),
        min_size=1,
        max_size=5,
    )
)


def advantages_of(
    rewards: Tensor, method: str, tokens: Sequence[Sequence[int]] | None = None
) -> Advantages:
    """Of a step whose answers all have one token where nothing else is said."""
    counts = torch.ones(rewards.shape) if tokens is None else torch.tensor(tokens)
    return compute_advantages(rewards, counts, ADVANTAGES[method])


def test_one_right_answer_of_four_by_hand() -> None:
    rewards = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    mean = advantages_of(rewards, "group_mean").values_PG
    assert mean.tolist() == [[0.75, -0.25, -0.25, -0.25]]
    # Population std: sqrt((0.75^2 + 3 * 0.25^2) / 4) = sqrt(3) / 4.
    norm = advantages_of(rewards, "group_norm").values_PG
    std = math.sqrt(3) / 4
    assert norm.tolist()[0] == pytest.approx([0.75 / (std + 1e-6), *[-0.25 / (std + 1e-6)] * 3])


def test_answers_without_a_score_are_left_out_of_mean_and_spread() -> None:
    found = advantages_of(torch.tensor([[1.0, NAN, 0.0, NAN]]), "group_norm")
    assert found.values_PG.tolist()[0] == pytest.approx([1 / 1.000002, 0, -1 / 1.000002, 0])
    assert found.useful_PG.tolist() == [[True, False, True, False]]


@pytest.mark.parametrize("method", ADVANTAGES)
@pytest.mark.parametrize("reward", [0.9, 0.1, 1 / 3, 1e30])
def test_equal_rewards_give_exactly_nothing_even_where_their_mean_rounds(
    method: str, reward: float
) -> None:
    for kind in (torch.float32, torch.float64):
        found = advantages_of(torch.full((3, 7), reward, dtype=kind), method)
        assert (found.values_PG == 0).all()
        assert not found.useful_PG.any()


def test_the_float32_mean_of_equal_rewards_does_round() -> None:
    assert torch.full((8,), 0.9).mean() != torch.tensor(0.9)


@pytest.mark.parametrize("rewards", [[NAN, NAN, NAN], [NAN, 1.0, NAN]])
def test_a_group_with_fewer_than_two_scores_teaches_nothing(rewards: list[float]) -> None:
    found = advantages_of(torch.tensor([rewards, [0.0, 1.0, 1.0]]), "group_norm")
    assert found.values_PG[0].tolist() == [0, 0, 0]
    assert found.useful_PG.tolist() == [[False] * 3, [True] * 3]


@pytest.mark.parametrize("reward", [math.inf, -math.inf])
def test_an_infinite_reward_is_named(reward: float) -> None:
    with pytest.raises(ValueError, match="answer 2 to problem 1 is infinite"):
        advantages_of(torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, reward]]), "group_mean")


@pytest.mark.parametrize("shape", [(4,), (2, 1), (1, 2, 2)])
def test_rewards_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"not \[P, G\]"):
        advantages_of(torch.zeros(shape), "group_mean")


@settings(deadline=None)
@given(rewards=GROUPS, method=st.sampled_from(BY_GROUP), chance=st.randoms(use_true_random=False))
def test_the_order_of_answers_does_not_matter_and_advantages_cancel_out(
    rewards: list[list[float]], method: str, chance: object
) -> None:
    order = list(range(len(rewards[0])))
    chance.shuffle(order)
    found = advantages_of(torch.tensor(rewards), method)
    moved = advantages_of(torch.tensor(rewards)[:, order], method)
    torch.testing.assert_close(moved.values_PG, found.values_PG[:, order])
    assert torch.equal(moved.useful_PG, found.useful_PG[:, order])
    assert found.values_PG.isfinite().all()
    assert found.values_PG.sum(dim=1).abs().max() < 1e-4
    assert (found.values_PG[~found.useful_PG] == 0).all()


@settings(deadline=None)
@given(rewards=GROUPS, method=st.sampled_from(BY_GROUP))
def test_groups_do_not_touch_each_other(rewards: list[list[float]], method: str) -> None:
    together = advantages_of(torch.tensor(rewards), method).values_PG
    alone = [advantages_of(torch.tensor([row]), method).values_PG for row in rewards]
    assert torch.equal(together, torch.cat(alone))


def test_the_unit_of_the_reward_cancels_in_group_norm_only() -> None:
    rewards = torch.tensor([[3.0, 1.0, 2.0, 2.0]])
    norm, mean = (advantages_of(rewards, method).values_PG for method in METHODS)
    scaled = rewards * 10 + 7
    torch.testing.assert_close(
        advantages_of(scaled, "group_norm").values_PG, norm, rtol=1e-5, atol=0
    )
    torch.testing.assert_close(advantages_of(scaled, "group_mean").values_PG, mean * 10)


def test_rewards_of_a_step_are_nan_where_there_are_none() -> None:
    rewards = rewards_of([scored([0.1, None]), scored([1.0, 0.9])], KLConfig())
    assert rewards.dtype == torch.float64
    assert rewards[0, 1].isnan()
    assert rewards.nan_to_num(nan=-1).tolist() == [[0.1, -1.0], [1.0, 0.9]]


def test_rloo_compares_with_the_mean_of_the_others_that_have_a_score() -> None:
    found = advantages_of(torch.tensor([[1.0, 0.0, 0.5, NAN]]), "rloo")
    # 1 - (0 + 0.5) / 2, 0 - (1 + 0.5) / 2, 0.5 - (1 + 0) / 2.
    assert found.values_PG.tolist()[0] == pytest.approx([0.75, -0.75, 0.0, 0.0])
    assert found.useful_PG.tolist() == [[True, True, True, False]]


def test_reinforce_plus_plus_normalises_over_the_tokens_of_the_step_by_hand() -> None:
    rewards = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    found = advantages_of(rewards, "reinforce_plus_plus", [[1, 6], [2, 1]])
    # Tokens of reward 1: 4 of 10; mean 0.4, std sqrt(0.4 * 0.6).
    std = math.sqrt(0.24) + 1e-6
    by_hand = [0.6 / std, -0.4 / std, 0.6 / std, 0.6 / std]
    assert found.values_PG.flatten().tolist() == pytest.approx(by_hand)
    assert found.useful_PG.all(), "a flat group says something where others differ from it"


def test_reinforce_plus_plus_with_a_baseline_by_hand_and_flat_groups_are_left_out() -> None:
    rewards = torch.tensor([[1.0, 0.0], [1.0, 1.0], [NAN, 1.0]])
    tokens = [[1, 3], [2, 2], [5, 2]]
    found = advantages_of(rewards, "reinforce_plus_plus_baseline", tokens)
    # Over tokens: 0.5 once, -0.5 three times, 0 six times; mean -0.1, mean square 0.1.
    std = math.sqrt(0.1 - 0.01) + 1e-6
    assert found.values_PG[0].tolist() == pytest.approx([0.6 / std, -0.4 / std])
    assert found.values_PG[1:].tolist() == [[0.0, 0.0]] * 2
    assert found.useful_PG.tolist() == [[True, True], [False] * 2, [False] * 2]


def test_kl_in_the_reward_is_the_whole_answer_s_as_the_sampler_had_it() -> None:
    group = scored([1.0, 0.5, None])  # 1, 2 and 3 tokens, each sampled at -1 nats
    group = replace(group, reference_logprobs=((-1.5,), (-1.25, -2.0), (-9.0,) * 3))
    found = rewards_of([group], KLConfig(coef=0.1, estimator="k1", place="reward"))
    # k1: -1 + 1.5 = 0.5; (-1 + 1.25) + (-1 + 2) = 1.25.
    assert found[0, :2].tolist() == pytest.approx([0.95, 0.375])
    assert found[0, 2].isnan()
    plain = rewards_of([group], KLConfig(coef=0.1, place="loss"))
    assert plain[0, :2].tolist() == [1.0, 0.5]
