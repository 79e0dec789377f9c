"""Steps of the learner for tests: their rows, and what plain PyTorch makes of them."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from actors.training.learner_group import LearnerGroup
from configs.jobs.grpo import GRPORecipe, PolicyConfig
from configs.schema.loss import LossConfig
from models.inputs.encoder import InputEncoder
from models.inputs.packing import pack
from models.policy.loading import load_model
from models.policy.policy import Policy
from rl.algorithms.rows import TrainingAnswer, TrainingRow, count_tokens
from rl.objectives.policy_losses import POLICY_LOSSES, AnswerTokens
from tests.ray.system import problem, recipe

LR, MAX_NORM, STEPS = 1e-4, 0.5, 8
SMALL = 64


def plan_for(folder: Path, sharding: dict[str, Any]) -> GRPORecipe:
    learner: dict[str, Any] = {
        "zero_stage": 2,
        "gradient_checkpointing": False,
        "max_tokens_per_microbatch": 2048,
        "optimizer": {
            "lr": LR,
            "weight_decay": 0.0,
            "schedule": "cosine",
            "warmup_ratio": 0.0,
            "max_grad_norm": MAX_NORM,
        },
    }
    short = {"prompt": {"max_tokens": 40}, "rollout": {"max_new_tokens": SMALL - 39}}
    return recipe(folder, steps=STEPS, learner=learner | sharding, **short)


@dataclass
class PlainTorch:
    """The same two steps by PyTorch alone: one answer at a time, no packing, no sharding."""

    rows: list[TrainingRow]
    weights: dict[str, Tensor]
    loss: float
    """Of the first step."""
    grad_norm: float
    """Of the first step, before clipping."""


def plain_policy(plan: GRPORecipe, folder: Path) -> tuple[Policy, InputEncoder]:
    encoder = InputEncoder(folder, plan.prompt, False)
    model = load_model(plan.policy, folder)
    return Policy(model, encoder, chunk=1024), encoder


def _backward(
    policy: Policy, encoder: InputEncoder, rows: list[TrainingRow]
) -> tuple[list[TrainingRow], float]:
    """Add the step's gradient up; the rows with logprobs of their sampler, and the loss."""
    sampled: list[TrainingRow] = []
    loss = 0.0
    for row in rows:
        answers: list[TrainingAnswer] = []
        for answer in row.answers:
            one = (replace(row, answers=(answer,)),)
            batch = pack(one, encoder.pad_id, encoder.pixels([row.problem]))
            logprobs_N, *_ = policy(batch)
            # As if the sampler's policy had been a little another: some ratios are clipped.
            drift_N = 0.3 * torch.sin(torch.arange(len(logprobs_N)) + answer.index)
            known = batch.sampler_logprobs
            sampler_N = logprobs_N.detach() + drift_N if known is None else known
            tokens = AnswerTokens(logprobs_N, sampler_N, batch.advantages, batch.answers)
            loss_N, _ = POLICY_LOSSES["clip"](tokens, LossConfig())
            (loss_N.sum() / count_tokens(rows)).backward()
            loss += loss_N.sum().item() / count_tokens(rows)
            answers.append(replace(answer, sampler_logprobs=tuple(sampler_N.tolist())))
        sampled.append(replace(row, answers=tuple(answers)))
    return sampled, loss


def milder(rows: list[TrainingRow]) -> list[TrainingRow]:
    """The same rows with a tenth of their advantages."""
    return [
        replace(row, answers=tuple(replace(a, advantage=0.1 * a.advantage) for a in row.answers))
        for row in rows
    ]


def answer_lengths() -> list[int]:
    """Tokens of each row's answers together."""
    # With micro-batches of one row, longest first, rows with and without pictures take turns: the
    # second of two ranks then never meets a picture.
    return [18, 17, 14, 13]


def _rows_without_logprobs(encoder: InputEncoder) -> list[TrainingRow]:
    rows: list[TrainingRow] = []
    for place, length in enumerate(answer_lengths()):
        one = problem(place, images=(place + 1) % 2)
        prompt = encoder.encode(one)
        ids = torch.randint(40, 300, (length,), generator=torch.Generator().manual_seed(place))
        halves = (ids[: length // 2], ids[length // 2 :])
        answers = tuple(
            TrainingAnswer(2 * place + i, tuple(half.tolist()), advantage=(-1.5, 2.0)[i])
            for i, half in enumerate(halves)
        )
        rows.append(TrainingRow(one, prompt, answers))
    return rows


def plain_steps(vlm_folder: Path) -> PlainTorch:
    """Two steps by PyTorch alone."""
    plan = plan_for(vlm_folder, {})
    policy, encoder = plain_policy(plan, vlm_folder)
    optimizer = torch.optim.AdamW(
        policy.parameters(), lr=LR, weight_decay=0.0, betas=plan.learner.optimizer.betas
    )
    given = _rows_without_logprobs(encoder)
    rows, loss = _backward(policy, encoder, given)
    norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), MAX_NORM).item()
    assert norm > MAX_NORM, "the step should be one that is clipped"
    optimizer.step()
    # Adam's first step is the same at any scale of the gradient; its second tells.
    optimizer.zero_grad()
    _backward(policy, encoder, milder(rows))
    torch.nn.utils.clip_grad_norm_(policy.parameters(), MAX_NORM)
    optimizer.param_groups[0]["lr"] = LR * (1 + math.cos(math.pi / STEPS)) / 2
    optimizer.step()
    weights = {name: p.detach().clone() for name, p in policy.model.named_parameters()}
    return PlainTorch(rows, weights, loss, norm)


def plain_updates(
    plan: GRPORecipe, folder: Path, rows: list[TrainingRow], high: float
) -> dict[str, Tensor]:
    """The weights after the updates of one step by PyTorch alone: two mini-batches, twice, with the
    ratio to the policy before them, and weights of at most `high` from the sampler to it."""
    policy, encoder = plain_policy(plan, folder)
    optimizer = torch.optim.AdamW(
        policy.parameters(), lr=LR, weight_decay=0.0, betas=plan.learner.optimizer.betas
    )
    packed = [
        [pack((row,), encoder.pad_id, encoder.pixels([row.problem])) for row in half]
        for half in (rows[0::2], rows[1::2])
    ]
    with torch.no_grad():
        old = [[policy(batch)[0] for batch in half] for half in packed]
    for update in range(4):
        half = update % 2
        tokens = sum(len(batch.targets) for batch in packed[half])
        for batch, old_N in zip(packed[half], old[half], strict=True):
            logprobs_N, *_ = policy(batch)
            known = AnswerTokens(logprobs_N, old_N, batch.advantages, batch.answers)
            loss_N, _ = POLICY_LOSSES["clip"](known, plan.loss)
            weights_N = torch.exp(old_N - batch.sampler_logprobs).clamp(max=high)
            ((loss_N * weights_N).sum() / tokens).backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), MAX_NORM)
        optimizer.param_groups[0]["lr"] = LR * (1 + math.cos(math.pi * update / (4 * STEPS))) / 2
        optimizer.step()
        optimizer.zero_grad()
    return {name: p.detach().clone() for name, p in policy.model.named_parameters()}


def exported(group: LearnerGroup, folder: Path) -> dict[str, Tensor]:
    """The weights by transformers' names; a checkpoint has names of its own."""
    group.export(folder)
    model = load_model(PolicyConfig(dtype="float32"), folder)
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def largest_gap(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """Of any weight."""
    assert ours.keys() == theirs.keys() and ours
    return max((ours[name] - theirs[name]).abs().max().item() for name in ours)


def distance(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """Euclidean, over all weights."""
    return math.hypot(*((ours[name] - theirs[name]).norm().item() for name in ours))


def spoiled(row: TrainingRow, bad: dict[str, float]) -> TrainingRow:
    """The row with something bad in its first answer."""
    first, *others = row.answers
    if "sampler_logprobs" in bad:
        assert first.advantage < 0, "an infinite ratio is clipped away where the answer was good"
        worse = replace(first, sampler_logprobs=(-float("inf"),) * len(first.token_ids))
    else:
        worse = replace(first, advantage=bad["advantage"])
    return replace(row, answers=(worse, *others))
