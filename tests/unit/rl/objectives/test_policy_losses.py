"""The policy losses and their gradients, by hand."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from configs.schema.loss import LossConfig
from rl.objectives.policy_losses import POLICY_LOSSES, AnswerTokens

LOW, HIGH = 0.2, 0.3
OLD = -0.7


def loss_of(
    config: LossConfig, tokens: AnswerTokens
) -> tuple[list[float], list[float], list[bool]]:
    """Losses, the gradient of their sum by the logprobs, and where a bound acts."""
    losses, bounded = POLICY_LOSSES[config.policy_loss](tokens, config)
    assert not bounded.requires_grad
    (gradient,) = torch.autograd.grad(losses.sum(), tokens.logprobs)
    return losses.tolist(), gradient.tolist(), bounded.tolist()


def tokens_of(
    ratios: list[float], advantages: list[float], answers: list[int], old: float = OLD
) -> AnswerTokens:
    """Tokens of these ratios to a policy that gave each `old` nats."""
    old_logprobs = torch.full((len(ratios),), old)
    logprobs = (old_logprobs + torch.tensor(ratios).log()).requires_grad_()
    return AnswerTokens(logprobs, old_logprobs, torch.tensor(advantages), torch.tensor(answers))


def one(ratio: float, advantage: float, old: float = OLD, **config: Any) -> tuple[Any, ...]:
    """Loss, gradient and flag of a single token."""
    found = loss_of(LossConfig(**config), tokens_of([ratio], [advantage], [0], old))
    return tuple(values[0] for values in found)


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
    found = one(ratio, advantage, clip_low=LOW, clip_high=HIGH)
    assert found == (pytest.approx(loss, abs=1e-6), pytest.approx(gradient, abs=1e-6), clipped)


@pytest.mark.parametrize("name", POLICY_LOSSES)
def test_on_policy_the_gradient_is_exactly_that_of_reinforce(name: str) -> None:
    tokens = tokens_of([1.0] * 4, [1.5, -0.5, 0.0, 1e-3], [0, 1, 2, 3])
    _, gradient, bounded = loss_of(LossConfig(policy_loss=name), tokens)
    assert gradient == (-tokens.advantages).tolist()
    assert not any(bounded)


@settings(deadline=None)
@given(logprob=st.floats(-5, 0), sampler=st.floats(-5, 0), advantage=st.floats(-3, 3, width=32))
def test_the_flag_says_where_the_gradient_is_gone_and_the_clip_never_lowers_the_loss(
    logprob: float, sampler: float, advantage: float
) -> None:
    logprobs = torch.tensor([logprob], dtype=torch.float64, requires_grad=True)
    old = torch.tensor([sampler], dtype=torch.float64)
    ratio = math.exp(logprob - sampler)
    tokens = AnswerTokens(logprobs, old, torch.tensor([advantage]), torch.tensor([0]))
    (loss,), (gradient,), (clipped,) = loss_of(LossConfig(clip_low=LOW, clip_high=HIGH), tokens)
    assert loss >= -ratio * advantage - 1e-9
    assert gradient == (0 if clipped else pytest.approx(-ratio * advantage))


def test_gspo_has_one_ratio_an_answer_the_geometric_mean_of_its_tokens() -> None:
    # Answer 7: sqrt(2 * 0.5) = 1, though its tokens went far; answer 3: sqrt(1.21) = 1.1.
    tokens = tokens_of([2.0, 1.21, 0.5, 1.0], [2.0, 2.0, 2.0, 2.0], [7, 3, 7, 3])
    config = LossConfig(policy_loss="gspo", clip_low=0.2, clip_high=0.05)
    loss, gradient, bounded = loss_of(config, tokens)
    assert loss == pytest.approx([-2.0, -2.1, -2.0, -2.1])
    # d(sum of two equal losses) / d(one logprob) = 2 * s A / 2.
    assert gradient == pytest.approx([-2.0, 0.0, -2.0, 0.0])
    assert bounded == [False, True, False, True]


def test_rloo_has_one_ratio_an_answer_the_product_over_its_tokens() -> None:
    # Answer 7: 2 * 0.5 = 1; answer 3: 1.1 * 1.1 = 1.21, held at 1.2.
    tokens = tokens_of([2.0, 1.1, 0.5, 1.1], [2.0, 2.0, 2.0, 2.0], [7, 3, 7, 3])
    loss, gradient, bounded = loss_of(LossConfig(policy_loss="rloo"), tokens)
    assert loss == pytest.approx([-2.0, -2.4, -2.0, -2.4])
    # d(sum of two equal losses) / d(one logprob) = 2 * r A; their mean over two tokens has r A.
    assert gradient == pytest.approx([-4.0, 0.0, -4.0, 0.0])
    assert bounded == [False, True, False, True]


def test_cispo_bounds_the_weight_and_keeps_every_gradient() -> None:
    config = {"policy_loss": "cispo", "clip_high": 0.5}
    # -min(rho, 1.5) A log pi, with log pi = -0.7 + log rho; its gradient is -min(rho, 1.5) A.
    assert one(2.0, 3.0, **config) == pytest.approx(
        (4.5 * (0.7 - math.log(2)), -4.5, True), rel=1e-5
    )
    assert one(0.1, -3.0, **config) == pytest.approx((-0.3 * (0.7 + math.log(10)), 0.3, False))
    low = one(0.1, 1.0, **config, clip_low=0.5)
    assert low[1:] == pytest.approx((-0.5, True))
    assert LossConfig(policy_loss="cispo").clip_high == 4.0


@pytest.mark.parametrize(("advantage", "tau"), [(2.0, 1.5), (-2.0, 3.0)])
def test_sapo_closes_a_gate_smoothly_and_sooner_for_bad_answers(
    advantage: float, tau: float
) -> None:
    gates = {"positive": 1.5, "negative": 3.0}
    loss, gradient, bounded = one(1.4, advantage, policy_loss="sapo", sapo=gates)
    gate = 1 / (1 + math.exp(-tau * 0.4))
    assert loss == pytest.approx(-4 / tau * gate * advantage)
    # d/dx of (4 / tau) sigmoid(tau (rho - 1)) is 4 gate (1 - gate) rho.
    assert gradient == pytest.approx(-4 * gate * (1 - gate) * 1.4 * advantage, rel=1e-5)
    assert not bounded


def test_dppo_lets_rare_tokens_double_and_holds_frequent_ones_that_moved_as_far_as_it_allows() -> (
    None
):
    config = {"policy_loss": "dppo_tv", "clip_low": 0.1, "clip_high": 0.15}
    rare, often = math.log(0.01), math.log(0.5)
    # 0.01 to 0.03: 0.02 apart; PPO would have clipped a ratio of 3.
    assert one(3.0, 2.0, rare, **config) == pytest.approx((-6.0, -6.0, False))
    # 0.5 to 0.7: 0.2 apart, more than 0.15.
    assert one(1.4, 2.0, often, **config) == pytest.approx((0.0, 0.0, True), abs=1e-7)
    # As far, but back where a bad answer belongs.
    assert one(1.4, -2.0, often, **config) == pytest.approx((2.8, 2.8, False))
    # 0.5 to 0.38: 0.12 apart, more than 0.1, for a bad answer.
    assert one(0.76, -2.0, often, **config) == pytest.approx((0.0, 0.0, True), abs=1e-7)
    assert one(0.76, 2.0, often, **config) == pytest.approx((-1.52, -1.52, False))


def test_dppo_s_other_divergence_is_the_kl_of_this_token_against_all_others() -> None:
    # 0.5 to 0.7: 0.5 log(0.5 / 0.7) + 0.5 log(0.5 / 0.3) = 0.0872.
    divergence = 0.5 * math.log(0.5 / 0.7) + 0.5 * math.log(0.5 / 0.3)
    for bound, held in ((divergence - 1e-4, True), (divergence + 1e-4, False)):
        config = {"policy_loss": "dppo_kl", "clip_high": bound}
        assert one(1.4, 2.0, math.log(0.5), **config)[2] is held


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"policy_loss": "sapo", "clip_high": 0.2}, "policy_loss=sapo, which has no bounds"),
        ({"policy_loss": "clip", "clip_low": None}, "needs that bound; its own is 0.2"),
        ({"sapo": {"positive": 2.0}}, "policy_loss=clip does not read it"),
        ({"policy_loss": "gspo", "aggregation": "token_mean"}, "set aggregation=sequence_mean"),
        ({"policy_loss": "rloo", "aggregation": "token_mean"}, "set aggregation=sequence_mean"),
        ({"policy_loss": "rloo", "kind": "mixed"}, "a teacher speaks of single tokens"),
        ({"policy_loss": "gspo", "kind": "mixed"}, "a teacher speaks of single tokens"),
        ({"policy_loss": "cispo", "kind": "distill"}, "no policy loss enters there"),
        ({"advantage": "rloo", "kind": "distill"}, "advantage=rloo with kind=distill: rewards do"),
        ({"clip_high": 0.5, "kind": "distill"}, r"clip_high=0\.5 .* no policy loss enters there"),
        ({"policy_loss": "dppo_tv", "old_policy": "learner"}, "would leave out none"),
        ({"policy_loss": "dppo_kl", "importance": {}}, "would leave out none"),
        ({"mask_overlong": True, "kind": "mixed"}, "set mask_overlong=false"),
        ({"kl": {"coef": 1, "place": "reward"}, "kind": "distill"}, "rewards do not enter there"),
        ({"kl": {"place": "reward", "weighted": True}}, "before there is a ratio"),
    ],
)
def test_what_contradicts_itself_is_refused(config: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        LossConfig.model_validate(config)


def test_a_teacher_s_word_on_the_sampled_token_alone_is_clipped_as_rewards_are() -> None:
    config = {"kind": "distill", "distill": {"top_k": 0}, "clip_high": 0.5}
    assert LossConfig.model_validate(config).clip_high == 0.5
    with pytest.raises(ValidationError, match="advantage=rloo with kind=distill"):
        LossConfig.model_validate(config | {"advantage": "rloo"})


def test_each_policy_loss_has_its_paper_s_bounds_and_mean() -> None:
    made = {name: LossConfig(policy_loss=name) for name in POLICY_LOSSES}
    assert (made["gspo"].clip_low, made["gspo"].clip_high) == (3e-4, 4e-4)
    assert (made["dppo_kl"].clip_low, made["sapo"].clip_high) == (0.05, None)
    assert (made["rloo"].clip_low, made["rloo"].clip_high) == (0.2, 0.2)
    means = {name: config.aggregation for name, config in made.items()}
    assert {means.pop(name) for name in ("gspo", "rloo", "sapo")} == {"sequence_mean"}
    assert set(means.values()) == {"token_mean"}
