"""What a recipe will start, and whether it fits."""

from typing import Any

import pytest

from actors.cluster.plan import Plan, plan_of
from rl.console.errors import DoesNotFit
from tests.unit.step_samples import recipe

BIG: dict[str, Any] = {
    "rollout": {"workers": 2, "tensor_parallel_size": 2},
    "learner": {"ranks": 4},
    "reward": {"weights": {"exact": 1.0}, "accuracy": "exact", "workers": 2, "processes": 3},
}


def pairs(**rollout: Any) -> dict[str, Any]:
    """Two GPUs, each with an engine and a learner rank on it."""
    engines = {"workers": 2, "gpu_memory_utilization": 0.5} | rollout
    return {"rollout": engines, "learner": {"ranks": 2}, "sync": {"shared_gpu": True}}


def on_gpus(**sections: Any) -> Plan:
    return plan_of(recipe(device="cuda", **sections), {})


def test_the_device_is_cuda_where_the_cluster_has_gpus_or_the_recipe_says_so() -> None:
    assert plan_of(recipe(), {"GPU": 1.0, "CPU": 4.0}).device == "cuda"
    assert plan_of(recipe(), {"CPU": 4.0}).device == "cpu"
    assert plan_of(recipe(device="cpu"), {"GPU": 8.0}).device == "cpu"
    assert plan_of(recipe(device="cuda"), {}).device == "cuda"


def test_weights_travel_by_what_suits_the_device() -> None:
    assert plan_of(recipe(), {}).transport == "gloo"
    assert on_gpus().transport == "nccl"
    assert on_gpus(**pairs()).transport == "ipc"
    assert on_gpus(sync={"transport": "nccl"}).transport == "nccl"
    for transport, device in (("gloo", "cuda"), ("nccl", "cpu"), ("ipc", "cpu")):
        with pytest.raises(ValueError, match=rf"transport={transport} with device={device}"):
            plan_of(recipe(sync={"transport": transport}, device=device), {})


def test_a_gpu_plan_by_hand() -> None:
    plan = on_gpus(**BIG, loss={"kl": {"coef": 0.1}})
    assert [(a.role, a.count, a.gpus, a.cpus) for a in plan.actors] == [
        ("rollout", 2, 2.0, 1.0),
        ("learner", 4, 1.0, 1.0),
        ("reward", 2, 0.0, 3.0),
        ("reference", 1, 1.0, 1.0),
    ]


def test_ranks_hold_the_gpus_that_engines_share_and_engines_none() -> None:
    plan = on_gpus(**pairs())
    assert [(a.role, a.count, a.gpus) for a in plan.actors][:2] == [
        ("rollout", 2, 0.0),
        ("learner", 2, 1.0),
    ]
    assert plan.role("rollout").what.endswith("on the GPU of 1 learner rank(s)")
    plan.check_fits({"GPU": 2.0, "CPU": 5.0})
    wide = on_gpus(**pairs(workers=1, tensor_parallel_size=2))
    assert wide.role("rollout").what.endswith("parallel 2, on the GPUs of 2 learner rank(s)")
    wide.check_fits({"GPU": 2.0, "CPU": 4.0})
    with pytest.raises(
        DoesNotFit, match=r"asks for 2 GPU \(2 learner x 1\), and the cluster has 1"
    ):
        wide.check_fits({"GPU": 1.0, "CPU": 4.0})


def test_on_a_cpu_machine_nothing_is_reserved_and_anything_fits() -> None:
    plan = plan_of(recipe(**BIG), {})
    assert all(actors.gpus == actors.cpus == 0 for actors in plan.actors)
    assert "reference" not in {actors.role for actors in plan.actors}
    plan.check_fits({"CPU": 1.0})


def test_a_cluster_with_just_enough_fits_and_one_with_less_is_told_what_lacks() -> None:
    plan = on_gpus(**BIG)
    plan.check_fits({"GPU": 8.0, "CPU": 12.0})
    with pytest.raises(DoesNotFit) as caught:
        plan.check_fits({"GPU": 7.0, "CPU": 12.0})
    told = str(caught.value)
    assert "asks for 8 GPU (2 rollout x 2, 4 learner x 1), and the cluster has 7" in told
    with pytest.raises(DoesNotFit, match=r"12 CPU \(.*2 reward x 3\), and the cluster has 11"):
        plan.check_fits({"GPU": 8.0, "CPU": 11.0})
    with pytest.raises(DoesNotFit, match="the cluster has 0"):
        plan.check_fits({"CPU": 12.0})


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (
            {"tensor_parallel_size": 4, "workers": 1},
            r"tensor_parallel_size=4 and learner\.ranks=2: .* set learner\.ranks=4, or tensor_par",
        ),
        ({"tensor_parallel_size": 2}, r"workers=2 of 2 GPU\(s\) .* set rollout\.workers=1"),
        ({"max_workers": 4}, "none can be added; set max_workers to null"),
        ({"workers": 3}, r"workers=3 of 1 GPU\(s\) and learner\.ranks=2: .*rollout\.workers=2"),
        (
            {"gpu_memory_utilization": 0.85},
            r"gpu_memory_utilization=0\.85 leaves the learner too little of its GPU; .* 0\.8 or",
        ),
    ],
)
def test_every_gpu_of_both_has_a_rank_and_a_device_of_an_engine_and_room_for_both(
    fault: dict[str, Any], told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        recipe(**pairs(**fault))
    assert recipe(**pairs(gpu_memory_utilization=0.8)).sync.shared_gpu


def test_engines_sleep_where_they_share_gpus_and_answer_nothing_while_the_learner_learns() -> None:
    assert on_gpus(**pairs()).engines_sleep
    assert not on_gpus().engines_sleep
    assert not on_gpus(**pairs(), max_staleness=1).engines_sleep
    awake = pairs() | {"sync": {"shared_gpu": True, "sleep": False}}
    assert not on_gpus(**awake).engines_sleep
    assert not plan_of(recipe(**pairs(), device="cpu"), {}).engines_sleep


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ({"sync": {"sleep": True}}, r"shared_gpu=false: an engine on a GPU of its own has nobody"),
        ({"max_staleness": 2}, r"sync\.sleep=true with max_staleness=2: engines then answer while"),
    ],
)
def test_sleep_where_it_cannot_be_is_refused(fault: dict[str, Any], told: str) -> None:
    asleep = pairs() | {"sync": {"shared_gpu": True, "sleep": True}}
    assert on_gpus(**asleep).engines_sleep
    with pytest.raises(ValueError, match=told):
        recipe(**asleep | fault)
    with pytest.raises(DoesNotFit, match=r"sync\.sleep=true on a CPU"):
        plan_of(recipe(**asleep, device="cpu"), {})


def test_an_engine_that_stays_awake_leaves_the_learner_more() -> None:
    awake = {"sync": {"shared_gpu": True, "sleep": False}}
    assert recipe(**pairs(gpu_memory_utilization=0.6) | awake)
    with pytest.raises(ValueError, match=r"0\.7 leaves .* while engines stay awake; .* 0\.6 or"):
        recipe(**pairs(gpu_memory_utilization=0.7) | awake)


def test_cores_of_actors_on_gpus_are_the_recipes() -> None:
    cores = {"rollout": {"workers": 2, "cpus_per_worker": 3}, "learner": {"cpus_per_rank": 2.5}}
    plan = on_gpus(**cores)
    assert (plan.role("rollout").cpus, plan.role("learner").cpus) == (3.0, 2.5)
    assert {actors.cpus for actors in plan_of(recipe(device="cpu", **cores), {}).actors} == {0.0}


def test_engines_that_may_come_later_are_told_and_not_reserved() -> None:
    engines = on_gpus(rollout={"workers": 2, "max_workers": 6}).role("rollout")
    assert engines.count == 2 and engines.what.endswith("; up to 6 as nodes join")


def test_flash_attention_on_a_cpu_is_refused() -> None:
    kernels = {"path": "some/model", "vision_attention": "flash_attention_2"}
    assert on_gpus(policy=kernels).device == "cuda"
    with pytest.raises(DoesNotFit, match=r"vision_attention=flash_attention_2 on a CPU.*sdpa"):
        plan_of(recipe(device="cpu", policy=kernels), {})


def test_compiled_engines_on_a_cpu_have_no_experts_to_replay() -> None:
    replayed = {"routing_replay": True}
    assert on_gpus(rollout=replayed).device == "cuda"
    plan_of(recipe(device="cpu", rollout=replayed | {"enforce_eager": True}), {})
    with pytest.raises(DoesNotFit, match=r"is compiled there does not note.*enforce_eager to true"):
        plan_of(recipe(device="cpu", rollout=replayed), {})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"learner": {"ranks": 2, "offload": True}}, "offload=true keeps all of it there"),
        ({"max_staleness": 1}, "no engine sleeps here"),
        ({"device": "cpu"}, "no engine sleeps here"),
    ],
)
def test_moments_wait_on_the_host_only_in_turn_with_engines_that_sleep(
    change: dict[str, Any], told: str
) -> None:
    wanted = pairs() | {"sync": {"shared_gpu": True, "offload_optimizer": True}}
    assert on_gpus(**wanted).engines_sleep
    with pytest.raises(DoesNotFit, match=told):
        plan_of(recipe(**({"device": "cuda"} | wanted | change)), {})
