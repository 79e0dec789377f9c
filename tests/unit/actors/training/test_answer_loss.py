"""The loss of sampled answers, by hand: rewards, a teacher, or both."""

import math
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
