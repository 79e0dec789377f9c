"""The losses and their gradients, by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rl.algorithms.losses import clipped_policy_loss, kl_divergence, reverse_kl

LOW, HIGH = 0.2, 0.3


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient", "clipped"),
    [
        # min(rho A, clip(rho, 0.8, 1.3) A): risen enough, good answer: held at 1.3 * 2.
        (1.5, 2.0, -2.6, 0.0, True),
        # Risen although bad: pulled back with the whole ratio.
        (1.5, -2.0, 3.0, 3.0, False),
        # Fallen although good: pulled back.
        (0.5, 2.0, -1.0, -1.0, False),
        # Fallen enough, bad answer: held at 0.8 * -2.
        (0.5, -2.0, 1.6, 0.0, True),
        (1.25, 2.0, -2.5, -2.5, False),
        (0.85, -2.0, 1.7, 1.7, False),
        (1.0, 2.0, -2.0, -2.0, False),
        (1.0, -2.0, 2.0, 2.0, False),
        (1.5, 0.0, 0.0, 0.0, False),
    ],
)
def test_the_clipped_loss_its_gradient_and_its_flag_by_hand(
    ratio: float, advantage: float, loss: float, gradient: float, clipped: bool
) -> None:
    sampler = torch.tensor([-0.7])
    logprobs = (sampler + math.log(ratio)).requires_grad_()
    found, flag = clipped_policy_loss(logprobs, sampler, torch.tensor([advantage]), LOW, HIGH)
    found.sum().backward()
    assert found.item() == pytest.approx(loss, abs=1e-6)
    assert logprobs.grad.item() == pytest.approx(gradient, abs=1e-6)
    assert flag.tolist() == [clipped]
    assert not flag.requires_grad


def test_on_policy_the_gradient_is_exactly_that_of_reinforce() -> None:
    advantages = torch.tensor([1.5, -0.5, 0.0, 1e-3])
    logprobs = torch.tensor([-0.1, -2.0, -30.0, 0.0], requires_grad=True)
    loss, clipped = clipped_policy_loss(logprobs, logprobs.detach().clone(), advantages, 0.2, 0.2)
    loss.sum().backward()
    assert torch.equal(logprobs.grad, -advantages)
    assert torch.equal(loss.detach(), -advantages)
    assert not clipped.any()


@settings(deadline=None)
@given(logprob=st.floats(-5, 0), sampler=st.floats(-5, 0), advantage=st.floats(-3, 3, width=32))
def test_the_flag_says_where_the_gradient_is_gone_and_the_clip_never_lowers_the_loss(
    logprob: float, sampler: float, advantage: float
) -> None:
    logprobs = torch.tensor([logprob], dtype=torch.float64, requires_grad=True)
    ratio = math.exp(logprob - sampler)
    loss, clipped = clipped_policy_loss(
        logprobs, torch.tensor([sampler], dtype=torch.float64), torch.tensor([advantage]), LOW, HIGH
    )
    loss.sum().backward()
    assert loss.item() >= -ratio * advantage - 1e-9
    if clipped.item():
        assert logprobs.grad.item() == 0
    else:
        assert logprobs.grad.item() == pytest.approx(-ratio * advantage)


@pytest.mark.parametrize(
    ("estimator", "value", "gradient"),
    [
        ("k1", math.log(2), 1.0),
        ("k2", math.log(2) ** 2 / 2, math.log(2)),
        ("k3", 1 / 2 - 1 + math.log(2), 1 - 1 / 2),
    ],
)
def test_kl_estimates_by_hand_where_the_policy_is_twice_as_sure(
    estimator: str, value: float, gradient: float
) -> None:
    logprobs = torch.tensor([math.log(0.5)], requires_grad=True)
    kl = kl_divergence(logprobs, torch.tensor([math.log(0.25)]), estimator)
    kl.sum().backward()
    assert kl.item() == pytest.approx(value)
    assert logprobs.grad.item() == pytest.approx(gradient)


def test_kl_of_equal_policies_is_nothing_and_only_k1_pushes() -> None:
    for estimator, push in (("k1", 1.0), ("k2", 0.0), ("k3", 0.0)):
        logprobs = torch.tensor([-0.3, -4.0], requires_grad=True)
        kl = kl_divergence(logprobs, logprobs.detach().clone(), estimator)
        kl.sum().backward()
        assert kl.tolist() == [0.0, 0.0]
        assert logprobs.grad.tolist() == [push, push]


def test_k1_and_k3_have_the_divergence_as_their_mean() -> None:
    policy = torch.tensor([0.5, 0.25, 0.125, 0.125])
    reference = torch.tensor([0.125, 0.25, 0.5, 0.125])
    # 0.5 ln 4 + 0 - 0.125 ln 4 + 0.
    exact = 0.375 * math.log(4)
    for estimator in ("k1", "k3"):
        kl = kl_divergence(policy.log(), reference.log(), estimator)
        assert (policy * kl).sum().item() == pytest.approx(exact, rel=1e-6)


@settings(deadline=None)
@given(st.floats(-20, 0), st.floats(-20, 0))
def test_k2_and_k3_are_never_negative(logprob: float, reference: float) -> None:
    pair = torch.tensor([logprob], dtype=torch.float64), torch.tensor([reference]).double()
    assert kl_divergence(*pair, "k2").item() >= 0
    assert kl_divergence(*pair, "k3").item() >= -1e-12


def test_reverse_kl_over_two_of_three_tokens_counts_the_third_as_the_rest_by_hand() -> None:
    own = torch.tensor([[0.5, 0.3]]).log()
    teacher = torch.tensor([[0.25, 0.6]]).log()
    by_hand = 0.5 * math.log(2) + 0.3 * math.log(0.5) + 0.2 * math.log(0.2 / 0.15)
    assert reverse_kl(own, teacher).tolist() == pytest.approx([by_hand], rel=1e-4)


def test_reverse_kl_over_all_tokens_is_that_of_torch_and_banned_ones_count_nothing() -> None:
    torch.manual_seed(1)
    own, teacher = torch.randn(2, 5, 7, dtype=torch.float64)
    own[:, 3] = teacher[:, 3] = -torch.inf
    own, teacher = own.log_softmax(-1).requires_grad_(), teacher.log_softmax(-1)
    left = [0, 1, 2, 4, 5, 6]
    exact = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=own[:, left]),
        torch.distributions.Categorical(logits=teacher[:, left]),
    )
    found = reverse_kl(own, teacher)
    torch.testing.assert_close(found, exact, atol=1e-5, rtol=0)
    found.sum().backward()
    assert own.grad.isfinite().all()


def test_equal_policies_are_no_divergence_apart_and_pull_nowhere() -> None:
    logits = torch.randn(4, 9, requires_grad=True)
    found = reverse_kl(logits.log_softmax(-1)[:, :3], logits.detach().log_softmax(-1)[:, :3])
    found.sum().backward()
    torch.testing.assert_close(found, torch.zeros(4), atol=1e-6, rtol=0)
    torch.testing.assert_close(logits.grad, torch.zeros(4, 9), atol=1e-6, rtol=0)
