"""The divergences and their gradients, by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rl.objectives.divergences import kl_divergence, reverse_kl


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
