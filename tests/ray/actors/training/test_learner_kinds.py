"""Learners in bfloat16, and with the reference policy on their ranks."""

import math
import os
import re
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from ray.exceptions import RayTaskError

from actors.training.learner import LearnerRank
from actors.training.learner_group import LearnerDied, LearnerStuck
from configs.jobs.grpo import GRPORecipe, PolicyConfig
from models.inputs.packing import pack
from models.policy.policy import logprobs_by_answer
from rl.algorithms.rows import TrainingRow
from tests.ray.actors.training.hosts import Hosts
from tests.ray.actors.training.learner_steps import (
    LR,
    SMALL,
    PlainTorch,
    distance,
    exported,
    largest_gap,
    plain_policy,
    plain_updates,
    plan_for,
    spoiled,
)
from tests.ray.processes import pid_of

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_gradients_of_many_micro_batches_lose_nothing_in_bfloat16(
    stage: int, hosts: Hosts, plain: PlainTorch, vlm_folder: Path
) -> None:
    # 64 copies of a row weigh 1/64 each, which bfloat16 holds exactly: only their sum can be off.
    plan = plan_for(vlm_folder, {"zero_stage": stage, "max_tokens_per_microbatch": SMALL})
    plan = plan.model_copy(update={"policy": PolicyConfig(path=str(vlm_folder))})
    row = plain.rows[0]
    copies = [
        replace(row, answers=tuple(replace(a, index=2 * n + i) for i, a in enumerate(row.answers)))
        for n in range(64)
    ]
    norms = [
        hosts.group(plan, vlm_folder).update(rows).metrics["grad_norm"] for rows in ([row], copies)
    ]
    assert norms[1] == pytest.approx(norms[0], rel=4e-4)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_learners_in_bfloat16_learn_and_skip_too(
    stage: int, hosts: Hosts, plain: PlainTorch, vlm_folder: Path, tmp_path: Path
) -> None:
    plan = plan_for(vlm_folder, {"zero_stage": stage})
    plan = plan.model_copy(update={"policy": PolicyConfig(path=str(vlm_folder))})
    group = hosts.group(plan, vlm_folder)
    start = exported(group, tmp_path / "start")
    assert group.update([spoiled(plain.rows[0], {"advantage": math.nan}), *plain.rows[1:]]).skipped
    assert largest_gap(exported(group, tmp_path / "skipped"), start) == 0.0
    report = group.update(plain.rows)
    assert not report.skipped
    assert report.metrics["grad_norm"] == pytest.approx(plain.grad_norm, rel=0.1)
    learned = exported(group, tmp_path / "learned")
    assert largest_gap(learned, start) > 0.0
    group.save(tmp_path / "saved")
    group.update(plain.rows)
    group.restore(tmp_path / "saved")
    assert largest_gap(exported(group, tmp_path / "restored"), learned) == 0.0


@pytest.mark.parametrize(
    "learner",
    [{"zero_stage": 2}, {"zero_stage": 3, "ranks": 2, "max_tokens_per_microbatch": SMALL}],
)
def test_several_updates_of_a_step_are_those_that_plain_pytorch_makes(
    learner: dict[str, Any], hosts: Hosts, plain: PlainTorch, vlm_folder: Path, tmp_path: Path
) -> None:
    fields = plan_for(vlm_folder, learner | {"minibatches": 2, "epochs": 2}).model_dump()
    fields["loss"]["importance"] = {"high": 1.1}
    plan = GRPORecipe.model_validate(fields)
    group = hosts.group(plan, vlm_folder)
    start = exported(group, tmp_path / "start")
    report = group.update(plain.rows)
    found = exported(group, tmp_path / "now")
    expected = plain_updates(plan, vlm_folder, plain.rows, high=1.1)
    assert largest_gap(found, expected) < 0.5 * LR
    assert distance(found, expected) < 1e-3 * distance(expected, start)
    # Sampler and learner differ by up to 0.3 nats, however often the learner has moved since.
    assert 0.1 < report.metrics["logprob_gap"] < report.metrics["logprob_gap_max"] < 0.31
    assert 0 < report.metrics["importance_bounded"] < 1
    assert report.answers.keys() == {a.index for row in plain.rows for a in row.answers}


def _with_reference(plan: GRPORecipe, folder: Path, rows: list[TrainingRow]) -> list[TrainingRow]:
    """The rows with what the start policy says of their answers, by plain PyTorch."""
    policy, encoder = plain_policy(plan, folder)
    known: list[TrainingRow] = []
    with torch.no_grad():
        for row in rows:
            batch = pack((row,), encoder.pad_id, encoder.pixels([row.problem]))
            said = logprobs_by_answer(batch, policy(batch)[0])
            answers = tuple(replace(a, reference_logprobs=said[a.index]) for a in row.answers)
            known.append(replace(row, answers=answers))
    return known


LORA = {"train": ["language"], "lora": {"rank": 4}}
PROJECTOR = {"train": ["projector"]}


@pytest.mark.parametrize(
    ("policy", "learner", "place"),
    [
        ({}, {"zero_stage": 2}, "shards"),
        ({}, {"zero_stage": 3, "ranks": 2, "max_tokens_per_microbatch": SMALL}, "shards"),
        ({}, {"zero_stage": 3, "ranks": 2, "max_tokens_per_microbatch": SMALL}, "offloaded"),
        (LORA, {"zero_stage": 2}, "base"),
        (LORA, {"zero_stage": 3, "ranks": 2, "max_tokens_per_microbatch": SMALL}, "base"),
        (PROJECTOR, {"zero_stage": 3, "ranks": 2, "max_tokens_per_microbatch": SMALL}, "base"),
        (LORA | {"train": ["projector", "language"]}, {"zero_stage": 2, "ranks": 2}, "base"),
    ],
)
def test_a_reference_on_the_learners_ranks_says_what_one_beside_them_says(
    policy: dict[str, Any],
    learner: dict[str, Any],
    place: str,
    hosts: Hosts,
    plain: PlainTorch,
    vlm_folder: Path,
) -> None:
    fields = plan_for(vlm_folder, learner).model_dump()
    fields["policy"] |= policy
    found: list[dict[str, float]] = []
    for where in ("actor", "learner"):
        own = {"offload": place == "offloaded"} if where == "learner" else {}
        plan = GRPORecipe.model_validate(fields | {"reference": {"place": where} | own})
        own_place = "shards" if place == "offloaded" else place
        assert plan.reference_in == ("actor" if where == "actor" else own_place)
        told = _with_reference(plan, vlm_folder, plain.rows) if where == "actor" else plain.rows
        group = hosts.group(plan, vlm_folder)
        first, second = group.update(told).metrics, group.update(told).metrics
        assert abs(first["kl"]) < 1e-6 < second["kl"]
        found.append(dict(second))
    beside, own = found
    for name in ("kl", "loss", "grad_norm"):
        assert own[name] == pytest.approx(beside[name], rel=2e-3, abs=1e-7), name


def _live(learner: LearnerRank) -> int:
    return learner._reference._engine.zero_max_live_parameters()


def test_a_sharded_reference_goes_by_the_recipe_s_own_settings_of_deepspeed(
    hosts: Hosts, vlm_folder: Path
) -> None:
    own = {"zero_stage": 2, "zero_optimization": {"stage3_max_live_parameters": 1234}}
    fields = plan_for(vlm_folder, own).model_dump() | {"reference": {"place": "learner"}}
    group = hosts.group(GRPORecipe.model_validate(fields), vlm_folder)
    assert ray.get(group._ranks[0].__ray_call__.remote(_live)) == 1234


@pytest.mark.parametrize(
    ("learner", "train"),
    [
        ({"zero_stage": 2}, ["projector", "language"]),
        ({"zero_stage": 3, "ranks": 2}, ["projector", "language"]),
        ({"zero_stage": 3, "ranks": 2}, ["language"]),
    ],
)
def test_kept_features_teach_what_pixels_teach(
    learner: dict[str, Any],
    train: list[str],
    hosts: Hosts,
    plain: PlainTorch,
    vlm_folder: Path,
    tmp_path: Path,
) -> None:
    fields = plan_for(vlm_folder, learner).model_dump()
    fields["policy"] |= {"train": train}
    fields["reference"] = {"place": "learner"}  # which reads the same features
    found: list[dict[str, float]] = []
    weights: list[dict[str, torch.Tensor]] = []
    for keep in ("off", "memory"):
        plan = GRPORecipe.model_validate(fields | {"features": {"keep": keep}})
        assert plan.reference_in == "shards"
        group = hosts.group(plan, vlm_folder)
        assert group.update(plain.rows).metrics.get("features_kept", 0.0) == 0.0
        found.append(dict(group.update(plain.rows).metrics))
        weights.append(exported(group, tmp_path / keep))
    pixels, kept = found
    for name in ("kl", "loss", "grad_norm"):
        assert kept[name] == pytest.approx(pixels[name], rel=1e-4), name
    assert largest_gap(*weights) < 0.01 * LR
    assert "features_kept" not in pixels
    assert kept["features_kept"] == 0.5, "two pictures, each met in both updates"


@pytest.mark.parametrize(
    "learner", [{"zero_stage": 0}, {"zero_stage": 2}, {"zero_stage": 3, "ranks": 2}]
)
def test_what_is_frozen_is_not_saved_again_and_is_there_after_a_restore(
    learner: dict[str, Any], hosts: Hosts, plain: PlainTorch, vlm_folder: Path, tmp_path: Path
) -> None:
    fields = plan_for(vlm_folder, learner).model_dump()
    fields["policy"] |= {"train": ["projector"]}
    plan = GRPORecipe.model_validate(fields)
    group = hosts.group(plan, vlm_folder)
    group.update(plain.rows)
    learned = exported(group, tmp_path / "learned")
    group.save(tmp_path / "saved")
    saved = sum(path.stat().st_size for path in (tmp_path / "saved").rglob("*"))
    assert saved < 0.5 * (tmp_path / "learned" / "model.safetensors").stat().st_size
    again = hosts.group(plan, vlm_folder)
    again.restore(tmp_path / "saved")
    assert largest_gap(exported(again, tmp_path / "restored"), learned) == 0.0
    assert not again.update(plain.rows).skipped


def test_a_checkpoint_that_lacks_what_learns_is_refused(
    hosts: Hosts, plain: PlainTorch, vlm_folder: Path, tmp_path: Path
) -> None:
    fields = plan_for(vlm_folder, {"zero_stage": 2}).model_dump()
    fields["policy"] |= {"train": ["projector"]}
    group = hosts.group(GRPORecipe.model_validate(fields), vlm_folder)
    group.update(plain.rows)
    group.save(tmp_path / "saved")
    (state,) = (tmp_path / "saved").rglob("*model_states.pt")
    whole = torch.load(state, weights_only=False)
    name = next(iter(whole["module"]))
    del whole["module"][name]
    torch.save(whole, state)
    with pytest.raises(RayTaskError, match=f"of another policy: it lacks .*{re.escape(name)}"):
        group.restore(tmp_path / "saved")


class Intruder:
    """Runs code where it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self._proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._proof),)


@pytest.mark.parametrize("part", ["model_states", "optim_states"])
def test_a_checkpoint_cannot_run_code(
    part: str, hosts: Hosts, vlm_folder: Path, tmp_path: Path
) -> None:
    group = hosts.group(plan_for(vlm_folder, {"zero_stage": 2}), vlm_folder)
    group.save(tmp_path / "saved")
    (state,) = (tmp_path / "saved").rglob(f"*{part}.pt")
    proof = tmp_path / "it_ran"
    torch.save({"module": Intruder(proof)}, state)
    with pytest.raises(RayTaskError, match=r"[Ww]eights.only"):
        group.restore(tmp_path / "saved")
    assert not proof.exists()
    torch.load(state, weights_only=False)
    assert proof.exists(), "the intruder is none"


TWO_RANKS = {"zero_stage": 3, "ranks": 2, "max_tokens_per_microbatch": SMALL}


def test_ranks_that_do_not_come_to_an_end_are_named_when_their_time_is_up(
    hosts: Hosts, plain: PlainTorch, vlm_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = hosts.group(plan_for(vlm_folder, TWO_RANKS), vlm_folder)
    stopped = pid_of(group._ranks[1])
    os.kill(stopped, signal.SIGSTOP)
    try:
        with monkeypatch.context() as hasty, pytest.raises(LearnerStuck) as told:
            hasty.setattr(group, "_timeout_s", 2.0)
            group.update(plain.rows)
    finally:
        os.kill(stopped, signal.SIGCONT)
    assert "learner ranks 0, 1 did not update within learner.timeout_s=2 s" in str(told.value)
    assert not group.update(plain.rows).skipped


def _die_at_the_step(learner: LearnerRank) -> None:
    learner._engine.step = lambda: os.kill(os.getpid(), signal.SIGKILL)


def test_a_death_is_told_and_not_the_broken_collective_of_those_who_live(
    hosts: Hosts, plain: PlainTorch, vlm_folder: Path
) -> None:
    """Last of all: there are no two ranks behind it."""
    group = hosts.group(plan_for(vlm_folder, TWO_RANKS), vlm_folder)
    ray.get(group._ranks[1].__ray_call__.remote(_die_at_the_step))
    with pytest.raises(LearnerDied, match="learner rank 1 died"):
        group.update(plain.rows)
