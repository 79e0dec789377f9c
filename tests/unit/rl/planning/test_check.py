"""What a run holds, whether a machine has it, and what would fit instead."""

from typing import Any

import pytest

from actors.cluster.plan import plan_of
from actors.weight_transfer import rendezvous
from configs.jobs.sft import AlignRecipe, SFTRecipe
from configs.jobs.stage import GRPOStage
from rl.planning.changes import changed, in_words
from rl.planning.check import nearest_change, planned_run
from rl.planning.machine import Machine
from rl.planning.memory import CUDA_GIB, Memory, estimator, fullest_host
from tests.unit.rl.planning.test_memory import memory
from tests.unit.step_samples import short_recipe as recipe


@pytest.mark.parametrize("stage", [2, 3])
@pytest.mark.parametrize(
    ("learns", "apart"), [("projector", ["vision"]), ("language", ["vision", "projector"])]
)
def test_what_is_kept_apart_is_whole_on_each_rank(
    folder: str, stage: int, learns: str, apart: list[Any]
) -> None:
    policy = {"path": folder, "train": [learns]}
    learner = {"zero_stage": stage, "ranks": 4}
    off, kept = (
        memory(folder, policy=policy, learner=learner, features={"keep": keep}).gpus[0]
        for keep in ("off", "memory")
    )
    shape = estimator(recipe(policy=policy).policy)
    assert shape is not None
    left_out = sum(shape.sizes[part] for part in apart)
    tower = shape.whole * left_out / sum(shape.sizes.values())
    more = 0.75 * tower if stage == 3 else 0.0  # of which every rank had a quarter
    assert kept.total - off.total == pytest.approx(more, abs=1e-9)


def test_adapters_are_named_and_leave_little_that_learns(folder: str) -> None:
    policy = {"path": folder, "train": ["language"], "lora": {"rank": 1}}
    learner = plan_of(recipe(policy=policy), {}).role("learner")
    assert learner.what.endswith("trains language (language by adapters of rank 1)")
    assert 0 < memory(folder, policy=policy).learning < 0.00002


def test_ranks_that_cannot_share_rows_are_refused_with_a_number_that_can(folder: str) -> None:
    three = {"ranks": 6, "sequence_parallel_size": 3}
    asked = recipe(device="cuda", policy={"path": folder}, learner=three)
    run = planned_run(asked, Machine(None, None, None))
    assert "learner.sequence_parallel_size=3 does not divide the policy's 4" in run.faults[0]


def test_an_engine_too_wide_for_the_policy_is_refused_with_a_width_that_fits(folder: str) -> None:
    wide = recipe(device="cuda", policy={"path": folder}, rollout={"tensor_parallel_size": 3})
    run = planned_run(wide, Machine(({"GPU": 8.0, "CPU": 8.0},), 80.0, None))
    (fault,) = run.faults
    assert "tensor_parallel_size=3 does not divide the policy's 4" in fault
    change = nearest_change(run)
    assert change is not None and in_words(change) == "rollout.tensor_parallel_size=2"


@pytest.mark.parametrize(("device", "faults"), [("cuda", 1), ("cpu", 0)])
def test_a_small_host_is_refused_where_cuda_fills_it_and_a_laptop_s_is_not(
    folder: str, device: str, faults: int
) -> None:
    policy = {"path": folder, "train": ["projector"]}
    asked = recipe(device=device, policy=policy, features={"keep": "memory"})
    run = planned_run(asked, Machine(({"GPU": 8.0, "CPU": 8.0},), 80.0, 5.0))
    assert len(run.faults) == faults
    assert all("GiB on its host" in fault for fault in run.faults)


def test_seats_need_room_on_single_nodes(folder: str) -> None:
    asked = recipe(
        device="cuda",
        policy={"path": folder},
        rollout={"workers": 1, "tensor_parallel_size": 4},
        learner={"ranks": 4},
    )
    halves = Machine(({"GPU": 3.0, "CPU": 9.0}, {"GPU": 5.0, "CPU": 9.0}), None, None)
    assert not planned_run(asked, halves).faults
    thirds = Machine(({"GPU": 3.0, "CPU": 9.0},) * 3, None, None)
    (fault,) = planned_run(asked, thirds).faults
    assert fault.startswith("1 rollout of 4 GPU and 1 CPU on one node find no room on 3 node(s)")


def test_the_fullest_host_is_the_one_where_most_sits() -> None:
    held = Memory((), {"learner": {"optimizer": 5.0}, "rollout": {"images": 4.0}})
    assert fullest_host(held, [{"rollout": 2}, {"learner": 2, "rollout": 1}]) == {
        "optimizer": 10.0,
        "images": 4.0,
    }


def test_beside_an_engine_that_sleeps_a_learner_rests_in_what_the_engine_leaves(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendezvous, "BUFFER_BYTES", 0)  # two of a GiB would not fit beside it
    (rank, _) = memory(folder).gpus
    assert CUDA_GIB < rank.at_rest < rank.total

    def faults(gib: float, share: float, **sync: Any) -> tuple[str, ...]:
        """Of a rank beside an engine that takes `share` of the GPU."""
        asked = recipe(
            device="cuda",
            policy={"path": folder},
            rollout={"gpu_memory_utilization": share},
            sync={"shared_gpu": True} | sync,
        )
        return planned_run(asked, Machine(None, gib, None)).faults

    roomy = 1.01 * (rank.total + CUDA_GIB)
    tight = 1 - 0.99 * rank.at_rest / roomy
    assert not faults(roomy, 1 - 1.01 * rank.at_rest / roomy)
    assert "beside an engine that answers" in faults(roomy, tight)[-1]
    small = faults(0.98 * (rank.total + CUDA_GIB), 0.6)
    assert any("beside an engine that sleeps" in fault for fault in small)
    assert faults(1.9 * rank.total, 0.5, sleep=False)
    assert not faults(2.1 * rank.total, 0.5, sleep=False)


def test_context_is_held_to_the_policys_positions_and_images_to_the_prompt(folder: str) -> None:
    run = planned_run(
        recipe(device="cuda", policy={"path": folder}, rollout={"max_new_tokens": 213}),
        Machine(None, None, None),
    )
    (fault,) = run.faults
    assert fault.endswith("allow rows of 513 tokens, and the policy has 512 positions")
    few = {"policy": {"path": folder}, "prompt": {"max_tokens": 3}}
    run = planned_run(recipe(device="cuda", **few), Machine(None, None, None))
    assert run.faults[0].endswith("so no image fits")


def test_a_stage_of_a_longer_run_is_changed_as_its_own_recipe_would_be() -> None:
    stage = GRPOStage().model_copy(update={"device": "cuda"})
    assert changed(stage, {"learner.ranks": 2}).learner.ranks == 2


def test_supervised_runs_are_planned_too(folder: str) -> None:
    fields: dict[str, Any] = {"name": "chats", "device": "cuda", "policy": {"path": folder}}
    chats = {"data": {"source": "chats.jsonl"}}
    sft = SFTRecipe.model_validate(fields | chats)
    align = AlignRecipe.model_validate(fields | {"passes": [chats]})
    machine = Machine(({"GPU": 1.0, "CPU": 1.0},), 80.0, 64.0)
    for asked in (sft, align):
        run = planned_run(asked, machine)
        assert run.memory is not None and not run.faults
        assert [held.who for held in run.memory.gpus] == ["learner rank"]
    two = changed(sft, {"learner.ranks": 2})
    change = nearest_change(planned_run(two, machine))
    assert change == {"learner.ranks": 1}


def test_a_resource_that_no_node_has_is_told_by_its_name() -> None:
    resources = {"learner": {"on_demand": 1}, "rollout": {"spott": 1}}
    given = recipe(device="cuda", cluster={"resources": resources})
    nodes = [{"CPU": 16.0}, {"GPU": 8.0, "CPU": 96.0, "on_demand": 8.0, "spot": 8.0}]
    faults = planned_run(given, Machine.of_cluster(given, nodes)).faults
    assert (
        "cluster.resources asks for spott for rollout, which no node has; nodes have CPU, GPU, "
        "on_demand, spot" in faults
    )


def test_moments_that_wait_on_the_host_are_two_thirds_of_the_optimizer(folder: str) -> None:
    sections: dict[str, Any] = {
        "rollout": {"workers": 1, "gpu_memory_utilization": 0.5},
        "learner": {"ranks": 1},
    }
    there = memory(folder, **sections, sync={"shared_gpu": True})
    waits = memory(folder, **sections, sync={"shared_gpu": True, "offload_optimizer": True})
    whole, left = there.gpus[0].parts["optimizer"], waits.gpus[0].parts["optimizer"]
    moments = waits.gpus[0].parts["moments"]
    assert (moments, left) == (pytest.approx(whole * 8 / 12), pytest.approx(whole * 4 / 12))
    assert waits.gpus[0].total == pytest.approx(there.gpus[0].total)
    assert waits.gpus[0].at_rest == pytest.approx(there.gpus[0].at_rest - moments)
    assert waits.hosts["learner"]["optimizer"] == moments
    assert there.hosts["learner"]["optimizer"] == 0.0
