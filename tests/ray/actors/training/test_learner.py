"""Learner ranks: however a step is cut and sharded, it is the step that plain PyTorch would do."""

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from actors.training.learner import LearnerRank
from actors.training.learner_group import LearnerGroup
from configs.jobs.grpo import GRPORecipe
from rl.algorithms.rows import build_microbatches, count_tokens
from rl.jobs.grpo_actors import learner_spec
from tests.ray.actors.training.hosts import Hosts
from tests.ray.actors.training.learner_steps import (
    LR,
    SMALL,
    PlainTorch,
    answer_lengths,
    distance,
    exported,
    largest_gap,
    milder,
    plan_for,
    spoiled,
)

pytestmark = [pytest.mark.ray, pytest.mark.slow]


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
    "zero 3, 2 ranks, weights on the host": {
        "zero_stage": 3,
        "ranks": 2,
        "offload": True,
        "zero_optimization": {"offload_param": {"device": "cpu"}},
    },
}


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


@pytest.mark.usefixtures("cluster")
def test_nobody_can_take_the_port_where_ranks_will_meet(vlm_folder: Path) -> None:
    first = LearnerRank(learner_spec(plan_for(vlm_folder, {}), vlm_folder, "cpu"), 0)
    _, port = first.open_rendezvous_store()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("", port))


def test_rows_for_two_ranks_leave_the_second_without_pictures(plain: PlainTorch) -> None:
    first, second = build_microbatches(plain.rows, SMALL, ranks=2)
    assert count_tokens(plain.rows) == sum(answer_lengths())
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
    report = running.group.update([spoiled(plain.rows[0], bad), *plain.rows[1:]])
    assert report.skipped and report.metrics["skipped"] == 1.0
    assert largest_gap(running.weights(), before) == 0.0
    assert not running.group.update(plain.rows).skipped
    assert 0.0 < largest_gap(running.weights(), before) < 2 * LR


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
