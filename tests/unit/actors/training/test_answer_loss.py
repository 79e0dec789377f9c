"""The loss of sampled answers, by hand: rewards, a teacher, or both."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from actors.training.answer_loss import AnswerLoss, told_apart
from configs.schema.loss import LossConfig
from models.inputs.packing import PackedBatch, pack
from rl.algorithms.rows import TrainingAnswer, TrainingRow
from rl.data.records import Problem, TeacherTokens
from rl.objectives.policy_losses import POLICY_LOSSES

ADVANTAGE = 2.0
SAMPLER = math.log(0.5)


def batch(top: int) -> PackedBatch:
    """One token: the sampler gave it 0.5, the teacher 0.25; of another one it thinks 0.6."""
    chosen = np.log([0.25]).astype(np.float32)
    both = np.log([[0.6, 0.25]]).astype(np.float32)
    teacher = TeacherTokens(chosen, np.array([[4, 3]], np.int32)[:, :top], both[:, :top])
    answer = TrainingAnswer(0, (3,), ADVANTAGE, (SAMPLER,), teacher=teacher)
    return pack((TrainingRow(Problem("p", "?", ("1",)), (7,), (answer,)),), pad_id=0)


def loss_of(top: int, **config: Any) -> tuple[float, float, dict[str, Tensor]]:
    """Loss, gradient with respect to the sampled token's logprob, and figures."""
    logprobs = torch.tensor([SAMPLER], requires_grad=True)
    others = torch.stack([torch.tensor([math.log(0.3)]), logprobs], dim=1)[:, :top]
    made = AnswerLoss(LossConfig.model_validate(config))
    loss, figures = made(batch(top), logprobs, torch.zeros(1), others)
    assert set(figures) <= set(made.figures)
    loss.sum().backward()
    return loss.item(), logprobs.grad.item(), figures


KL = 0.5 * math.log(2) + 0.3 * math.log(0.5) + 0.2 * math.log(0.2 / 0.15)
# d/dx of e^x (x - log q) + r log(r / s) at p = 0.5, with dr/dx = -p.
KL_SLOPE = 0.5 * (math.log(0.5 / 0.25) + 1) - 0.5 * (math.log(0.2 / 0.15) + 1)


def test_rewards_alone_leave_the_teacher_out() -> None:
    loss, slope, figures = loss_of(2, kind="grpo")
    assert (loss, slope) == pytest.approx((-ADVANTAGE, -ADVANTAGE))
    assert "teacher_kl" not in figures


def test_a_teacher_alone_pulls_by_the_divergence_over_its_tokens_whatever_the_reward() -> None:
    loss, slope, figures = loss_of(2, kind="distill", distill={"coef": 3.0})
    assert (loss, slope) == pytest.approx((3 * KL, 3 * KL_SLOPE), rel=1e-3)
    assert figures["teacher_kl"].item() == pytest.approx(KL, rel=1e-3)
    assert "clip_share" not in figures


def test_mixed_is_the_sum_of_both() -> None:
    loss, slope, _ = loss_of(2, kind="mixed", distill={"coef": 0.5})
    assert loss == pytest.approx(-ADVANTAGE + 0.5 * KL, rel=1e-3)
    assert slope == pytest.approx(-ADVANTAGE + 0.5 * KL_SLOPE, rel=1e-3)


def test_of_the_sampled_token_alone_the_log_ratio_is_the_advantage() -> None:
    loss, slope, figures = loss_of(0, kind="distill", distill={"top_k": 0})
    assert (loss, slope) == pytest.approx((math.log(2), math.log(2)))
    assert figures["teacher_kl"].item() == pytest.approx(math.log(2))


def test_entropy_where_a_critical_word_begins_is_told_apart() -> None:
    answers = (TrainingAnswer(0, (3, 5, 3), 1.0, (SAMPLER,) * 3),)
    made = pack((TrainingRow(Problem("p", "?", ("1",)), (7,), answers),), pad_id=0)
    loss = AnswerLoss(LossConfig(), critical=((3,),))
    entropy = torch.tensor([0.5, 8.0, 1.5])
    _, figures = loss(made, torch.full((3,), SAMPLER), entropy, torch.zeros(3, 0))
    means = {name: figures[name].mean().item() for name in ("critical_share", "critical_entropy")}
    assert told_apart(means) == pytest.approx({"critical_share": 2 / 3, "critical_entropy": 1.0})
    assert told_apart({"critical_share": 0.0, "critical_entropy": 0.0}) == {"critical_share": 0.0}


def test_what_the_learner_says_of_each_token_is_kept_by_answer() -> None:
    """Two answers behind one prompt, and one behind another, in one micro-batch."""
    problem = Problem("p", "?", ("1",))
    first, second, third = (
        TrainingAnswer(index, ids, 1.0, (SAMPLER,) * len(ids))
        for index, ids in ((4, (3, 5)), (2, (6,)), (7, (8, 9, 3)))
    )
    rows = (TrainingRow(problem, (7,), (first, second)), TrainingRow(problem, (7, 7), (third,)))
    loss = AnswerLoss(LossConfig())
    gap = torch.tensor([0.5, -0.25, 0.0, 1.0, -2.0, 0.0])
    loss(pack(rows, pad_id=0), gap + SAMPLER, torch.arange(6.0), torch.zeros(6, 0))
    told = {i: (of.gaps.round(4).tolist(), of.entropies.tolist()) for i, of in loss.answers.items()}
    assert told == {
        4: ([0.5, -0.25], [0.0, 1.0]),
        2: ([0.0], [2.0]),
        7: ([1.0, -2.0, 0.0], [3.0, 4.0, 5.0]),
    }
    assert loss.answers[4].logprob_gap == pytest.approx(0.375)


def answers_of(lengths: list[int]) -> list[TrainingAnswer]:
    """Answers that went away from their sampler, each with an advantage and a weight."""
    chance = torch.Generator().manual_seed(1)
    made: list[TrainingAnswer] = []
    for index, length in enumerate(lengths):
        sampler = -torch.rand(length, generator=chance)
        ids, advantage = tuple(range(3, 3 + length)), 1.5 * (-1) ** index
        made.append(
            TrainingAnswer(index, ids, advantage, tuple(sampler.tolist()), weight=1.0 / length)
        )
    return made


@pytest.mark.parametrize("name", POLICY_LOSSES)
def test_a_loss_is_the_same_however_its_answers_share_micro_batches(name: str) -> None:
    answers = answers_of([3, 1, 4, 2])
    loss = AnswerLoss(LossConfig(policy_loss=name))
    told = {a.index: -torch.rand(len(a.token_ids)) for a in answers}

    def of(*parts: tuple[int, ...]) -> float:
        total = 0.0
        for part in parts:
            own = tuple(answers[i] for i in part)
            made = pack((TrainingRow(Problem("p", "?", ("1",)), (7,), own),), pad_id=0)
            logprobs = torch.cat([told[i] for i in part])
            total += loss(made, logprobs, logprobs, torch.zeros(len(logprobs), 0))[0].sum().item()
        return total

    whole = pytest.approx(of((0, 1, 2, 3)), abs=1e-6)
    assert of((0,), (1,), (2,), (3,)) == whole
    assert of((3, 1), (2, 0)) == whole


def test_each_answer_s_weight_is_its_part_in_the_loss() -> None:
    answer = answers_of([4])[0]
    for weight in (1.0, 0.25):
        row = TrainingRow(Problem("p", "?", ("1",)), (7,), (replace(answer, weight=weight),))
        made = pack((row,), pad_id=0)
        assert made.sampler_logprobs is not None
        loss, _ = AnswerLoss(LossConfig())(
            made, made.sampler_logprobs, torch.zeros(4), torch.zeros(4, 0)
        )
        assert loss.tolist() == pytest.approx([-1.5 * weight] * 4)


def test_kl_that_is_in_the_reward_is_told_and_does_not_enter_twice() -> None:
    answer = replace(answers_of([2])[0], reference_logprobs=(-3.0, -3.0))
    made = pack((TrainingRow(Problem("p", "?", ("1",)), (7,), (answer,)),), pad_id=0)
    assert made.sampler_logprobs is not None
    found = {}
    for place in ("loss", "reward"):
        config = LossConfig.model_validate({"kl": {"coef": 0.5, "place": place}})
        arguments = (made, made.sampler_logprobs, torch.zeros(2), torch.zeros(2, 0))
        loss, figures = AnswerLoss(config)(*arguments)
        found[place] = (loss.sum().item(), figures["kl"].sum().item())
    assert found["loss"][1] == found["reward"][1] > 0
    by_weight = 0.5 * found["loss"][1] * 0.5
    assert found["loss"][0] - found["reward"][0] == pytest.approx(by_weight)


OLD = {"old_policy": "learner"}
TIS = {"importance": {"high": 1.5}}


@pytest.mark.parametrize(
    ("config", "old", "loss", "slope", "told"),
    [
        # The sampler gave 0.5, the learner gives 0.75 now: rho 1.5, clipped at 1.2.
        ({}, None, -2.4, 0.0, {"logprob_gap": math.log(1.5)}),
        # Before the step's first update, which this one is: rho is 1.
        (OLD, None, -2.0, -2.0, {"logprob_gap": math.log(1.5)}),
        # The learner began the step at 0.6 and has moved since: rho 1.25, clipped at 1.2.
        (OLD, 0.6, -2.4, 0.0, {"logprob_gap": math.log(1.2)}),
        # The weight is of the learner before: 0.75 / 0.5; 0.6 / 0.5; 0.9 / 0.5, truncated.
        (TIS, None, -3.0, -3.0, {"importance": 1.5, "importance_bounded": 0.0}),
        (TIS, 0.6, -2.4 * 1.2, 0.0, {"importance": 1.2}),
        (TIS, 0.9, -2.0 * 0.75 / 0.9 * 1.5, -2.5, {"importance": 1.5, "importance_bounded": 1.0}),
    ],
)
def test_the_ratio_is_to_the_policy_that_the_recipe_names_and_weights_bridge_the_rest(
    config: dict[str, Any],
    old: float | None,
    loss: float,
    slope: float,
    told: dict[str, float],
) -> None:
    before = None if old is None else (math.log(old),)
    answer = TrainingAnswer(0, (3,), ADVANTAGE, (SAMPLER,), old_logprobs=before)
    made = pack((TrainingRow(Problem("p", "?", ("1",)), (7,), (answer,)),), pad_id=0)
    logprobs = torch.tensor([math.log(0.75)], requires_grad=True)
    of = AnswerLoss(LossConfig.model_validate(config))
    found, figures = of(made, logprobs, torch.zeros(1), torch.zeros(1, 0))
    assert set(figures) <= set(of.figures)
    found.sum().backward()
    assert found.item() == pytest.approx(loss, rel=1e-5)
    assert logprobs.grad.item() == pytest.approx(slope, rel=1e-5)
    assert {name: figures[name].item() for name in told} == pytest.approx(told, rel=1e-5)
    sampler, before = math.log(0.5), math.log(old or 0.75)
    k3 = math.exp(before - sampler) - 1 - (before - sampler)
    assert figures["sampler_kl"].item() == pytest.approx(k3, rel=1e-5)
