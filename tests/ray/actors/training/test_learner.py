"""Learner ranks: however a step is cut and sharded, it is the step that plain PyTorch would do."""

import math
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from actors.training.learner import LearnerRank
from actors.training.learner_group import LearnerGroup
from configs.jobs.grpo import GRPORecipe, PolicyConfig
from models.inputs.encoder import InputEncoder
from models.inputs.packing import pack
from models.policy.loading import load_model
from models.policy.policy import Policy
from rl.algorithms.losses import clipped_policy_loss
from rl.algorithms.rows import TrainingAnswer, TrainingRow, build_microbatches, count_tokens
from rl.jobs.grpo_actors import learner_spec
from tests.ray.actors.training.hosts import Hosts
from tests.ray.system import problem, recipe

pytestmark = [pytest.mark.ray, pytest.mark.slow]

LR, MAX_NORM, STEPS = 1e-4, 0.5, 8
SMALL = 64

SHARDINGS: dict[str, dict[str, Any]] = {
    "zero 0, 2 ranks": {"zero_stage": 0, "ranks": 2, "max_tokens_per_microbatch": SMALL},
    "zero 1": {"zero_stage": 1},
    "zero 2, offloaded": {"zero_stage": 2, "offload": True},
    "zero 2, small micro-batches": {"max_tokens_per_microbatch": SMALL},
    "zero 2, 2 ranks": {"ranks": 2, "gradient_checkpointing": True},
    # Chunks of 17: the first rank, with an answer of 18, needs one more than the second.
    "zero 3, 2 ranks": {
        "zero_stage": 3,
        "ranks": 2,
        "max_tokens_per_microbatch": SMALL,
        "logprob_chunk": 17,
    },
}


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
    return Policy(model, encoder, temperature=1.0, chunk=1024), encoder


@pytest.fixture(scope="module")
def plain(vlm_folder: Path) -> PlainTorch:
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
            loss_N, _ = clipped_policy_loss(logprobs_N, sampler_N, batch.advantages, 0.2, 0.2)
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


def _answer_lengths() -> list[int]:
    # With micro-batches of one row, longest first, rows with and without pictures take turns: the
    # second of two ranks then never meets a picture.
    return [18, 17, 14, 13]


def _rows_without_logprobs(encoder: InputEncoder) -> list[TrainingRow]:
    rows: list[TrainingRow] = []
    for place, length in enumerate(_answer_lengths()):
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


@dataclass
class Running:
    """Learners under test, the weights that they had at first, and what their first update said."""

    plan: GRPORecipe
    group: LearnerGroup
    start: dict[str, Tensor]
    report: dict[str, float]
    spare: Path

    def weights(self) -> dict[str, Tensor]:
        """What the learners export now."""
        return exported(self.group, self.spare / "now")


def exported(group: LearnerGroup, folder: Path) -> dict[str, Tensor]:
    """The weights by transformers' names; a checkpoint has names of its own."""
    group.export(folder)
    model = load_model(PolicyConfig(dtype="float32"), folder)
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


@pytest.fixture(scope="module")
def hosts(cluster: None) -> Iterator[Hosts]:
    made = Hosts()
    yield made
    made.close()


@pytest.fixture(scope="module", params=SHARDINGS.values(), ids=SHARDINGS.keys())
def running(
    request: pytest.FixtureRequest,
    hosts: Hosts,
    plain: PlainTorch,
    vlm_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Running:
    plan = plan_for(vlm_folder, request.param)
    spare = tmp_path_factory.mktemp("learners")
    group = hosts.group(plan, vlm_folder)
    start = exported(group, spare / "start")
    report = group.update(plain.rows)
    group.update(milder(plain.rows))
    return Running(plan, group, start, dict(report.metrics), spare)


def largest_gap(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    assert ours.keys() == theirs.keys() and ours
    return max((ours[name] - theirs[name]).abs().max().item() for name in ours)


def distance(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """Euclidean, over all weights."""
    return math.hypot(*((ours[name] - theirs[name]).norm().item() for name in ours))


@pytest.mark.usefixtures("cluster")
def test_nobody_can_take_the_port_where_ranks_will_meet(vlm_folder: Path) -> None:
    first = LearnerRank(learner_spec(plan_for(vlm_folder, {}), vlm_folder, "cpu"), 0)
    _, port = first.open_rendezvous_store()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("", port))


def test_rows_for_two_ranks_leave_the_second_without_pictures(plain: PlainTorch) -> None:
    first, second = build_microbatches(plain.rows, SMALL, ranks=2)
    assert count_tokens(plain.rows) == sum(_answer_lengths())
    assert all(row.problem.images for batch in first for row in batch)
    assert not any(row.problem.images for batch in second for row in batch)


def test_updates_are_those_that_plain_pytorch_makes(running: Running, plain: PlainTorch) -> None:
    weights = running.weights()
    # Adam makes a step of nearly no gradient by its sign: single weights may be a little apart, the
    # update as a whole is not.
    assert largest_gap(weights, plain.weights) < 0.5 * LR
    assert distance(weights, plain.weights) < 1e-3 * distance(plain.weights, running.start)
    assert LR < largest_gap(weights, running.start) < 2 * LR
    assert running.report["loss"] == pytest.approx(plain.loss, rel=1e-4)
    assert running.report["grad_norm"] == pytest.approx(plain.grad_norm, rel=1e-4)
    assert 0 < running.report["clip_share"] < 1


@pytest.mark.parametrize("bad", [{"advantage": float("nan")}, {"sampler_logprobs": -float("inf")}])
def test_an_update_that_is_not_finite_is_skipped_whole(
    running: Running, plain: PlainTorch, bad: dict[str, float]
) -> None:
    before = running.weights()
    report = running.group.update([_spoiled(plain.rows[0], bad), *plain.rows[1:]])
    assert report.skipped and report.metrics["skipped"] == 1.0
    assert largest_gap(running.weights(), before) == 0.0
    assert not running.group.update(plain.rows).skipped
    assert 0.0 < largest_gap(running.weights(), before) < 2 * LR


def _spoiled(row: TrainingRow, bad: dict[str, float]) -> TrainingRow:
    first, *others = row.answers
    if "sampler_logprobs" in bad:
        assert first.advantage < 0, "an infinite ratio is clipped away where the answer was good"
        spoiled = replace(first, sampler_logprobs=(-float("inf"),) * len(first.token_ids))
    else:
        spoiled = replace(first, advantage=bad["advantage"])
    return replace(row, answers=(spoiled, *others))


def test_learners_go_on_from_what_they_saved_as_if_never_stopped(
    running: Running, plain: PlainTorch, tmp_path: Path
) -> None:
    running.group.save(tmp_path)
    reports = [dict(running.group.update(plain.rows).metrics) for _ in range(2)]
    went_on = running.weights()
    running.group.restore(tmp_path)
    again = [dict(running.group.update(plain.rows).metrics) for _ in range(2)]
    assert largest_gap(running.weights(), went_on) < 1e-7
    assert again[0]["lr"] == reports[0]["lr"] > again[1]["lr"] == reports[1]["lr"]
    assert [r["loss"] for r in again] == pytest.approx([r["loss"] for r in reports], rel=1e-5)


def test_a_rate_that_is_changed_at_a_resume_holds_from_the_first_step_on(
    running: Running, hosts: Hosts, plain: PlainTorch, vlm_folder: Path, tmp_path: Path
) -> None:
    running.group.save(tmp_path)
    fields = running.plan.model_dump()
    fields["learner"]["optimizer"] |= {"lr": LR / 100, "schedule": "constant"}
    group = hosts.group(GRPORecipe.model_validate(fields), vlm_folder)
    group.restore(tmp_path)
    assert group.update(plain.rows).metrics["lr"] == pytest.approx(LR / 100)


@pytest.mark.parametrize("stage", [0, 2])
def test_learners_in_bfloat16_learn_and_skip_too(
    stage: int, hosts: Hosts, plain: PlainTorch, vlm_folder: Path, tmp_path: Path
) -> None:
    plan = plan_for(vlm_folder, {"zero_stage": stage})
    plan = plan.model_copy(update={"policy": PolicyConfig(path=str(vlm_folder))})
    group = hosts.group(plan, vlm_folder)
    start = exported(group, tmp_path / "start")
    assert group.update([_spoiled(plain.rows[0], {"advantage": math.nan}), *plain.rows[1:]]).skipped
    assert largest_gap(exported(group, tmp_path / "skipped"), start) == 0.0
    report = group.update(plain.rows)
    assert not report.skipped
    assert report.metrics["grad_norm"] == pytest.approx(plain.grad_norm, rel=0.1)
    assert largest_gap(exported(group, tmp_path / "learned"), start) > 0.0
