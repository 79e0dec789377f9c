"""The plan of actors: what a recipe will start, and whether a cluster has room for it."""

from collections.abc import Mapping
from dataclasses import dataclass

from configs.schema.grpo import GRPORecipe
from configs.schema.rollout import Transport
from configs.schema.run import Device
from configs.schema.sft import SupervisedRecipe
from rl.console.errors import DoesNotFit


@dataclass(frozen=True, slots=True)
class PlannedActors:
    """Equal actors that a run will start."""

    role: str
    count: int
    gpus: float
    """GPUs of each."""
    cpus: float
    """CPU cores of each that Ray reserves."""
    what: str


def device_of(recipe: GRPORecipe | SupervisedRecipe, resources: Mapping[str, float]) -> Device:
    """The recipe's device; `auto` is cuda where the cluster has GPUs."""
    if recipe.device == "auto":
        return "cuda" if resources.get("GPU", 0) > 0 else "cpu"
    return recipe.device


def transport_of(recipe: GRPORecipe, device: Device) -> Transport:
    """How weights travel: the recipe's word, or what suits the device.

    Raises:
        DoesNotFit: the recipe names a transport that the device does not have.
    """
    wanted = recipe.sync.transport
    if wanted == "auto":
        if device == "cpu":
            return "gloo"
        return "ipc" if recipe.sync.shared_gpu else "nccl"
    if (wanted == "gloo") != (device == "cpu"):
        raise DoesNotFit(
            f"sync.transport={wanted} with device={device}: gloo serves CPU engines, nccl and ipc "
            "serve GPUs; set sync.transport=auto"
        )
    if device == "cuda" and (wanted == "ipc") != recipe.sync.shared_gpu:
        raise DoesNotFit(
            f"sync.transport={wanted} with sync.shared_gpu={recipe.sync.shared_gpu}: ipc serves "
            "GPUs that learner and engine share, nccl serves GPUs of their own; set "
            "sync.transport=auto"
        )
    return wanted


def planned_actors(recipe: GRPORecipe, device: Device) -> list[PlannedActors]:
    """Every actor of the run.

    On a CPU machine actors reserve nothing: learner and engines take turns on the same cores.
    """
    gpu = device == "cuda"
    shared = recipe.sync.shared_gpu
    rollout, learner = recipe.rollout, recipe.learner
    core = 1.0 if gpu else 0.0
    plan = [
        PlannedActors(
            "rollout",
            rollout.workers,
            (0.5 if shared else 1.0) * rollout.tensor_parallel_size if gpu else 0.0,
            core,
            f"vLLM engine, tensor parallel {rollout.tensor_parallel_size}",
        ),
        PlannedActors(
            "learner",
            learner.ranks,
            (0.5 if shared else 1.0) if gpu else 0.0,
            core,
            _rank(recipe),
        ),
        PlannedActors(
            "reward",
            recipe.reward.workers,
            0.0,
            core * recipe.reward.processes,
            f"{recipe.reward.processes} verifier process(es): {', '.join(recipe.reward.weights)}",
        ),
    ]
    if recipe.loss.kl.coef > 0:
        gpus = 1.0 if gpu else 0.0
        plan.append(PlannedActors("reference", 1, gpus, core, "frozen start policy"))
    return plan


def planned_ranks(recipe: SupervisedRecipe, device: Device) -> list[PlannedActors]:
    """The workers of a supervised job, which also reserve their cores on a CPU machine."""
    learner = recipe.learner
    gpus = 1.0 if device == "cuda" else 0.0
    return [PlannedActors("learner", learner.ranks, gpus, learner.cpus_per_rank, _rank(recipe))]


def _rank(recipe: GRPORecipe | SupervisedRecipe) -> str:
    lora = recipe.policy.lora
    by = f" (language by adapters of rank {lora.rank})" if lora else ""
    learns = ", ".join(recipe.policy.train)
    return f"DeepSpeed rank, ZeRO {recipe.learner.zero_stage}, trains {learns}{by}"


def check_fits(plan: list[PlannedActors], resources: Mapping[str, float]) -> None:
    """Nothing when the cluster has the GPUs and cores that the plan reserves.

    Ray would otherwise wait in silence for nodes that never come.

    Raises:
        DoesNotFit: says what is asked, what is there, and what to change.
    """
    check_room(
        plan,
        resources,
        "rollout.workers, rollout.tensor_parallel_size, learner.ranks or reward.workers",
    )


def check_room(plan: list[PlannedActors], resources: Mapping[str, float], lower: str) -> None:
    """Nothing when the cluster has what the plan reserves; `lower` names the fields that say it.

    Raises:
        DoesNotFit: says what is asked, what is there, and what to change.
    """
    for resource, per_actor in (("GPU", "gpus"), ("CPU", "cpus")):
        wanted = sum(actors.count * getattr(actors, per_actor) for actors in plan)
        there = resources.get(resource, 0.0)
        if wanted > there:
            parts = ", ".join(
                f"{a.count} {a.role} x {getattr(a, per_actor):g}"
                for a in plan
                if getattr(a, per_actor) > 0
            )
            raise DoesNotFit(
                f"the recipe asks for {wanted:g} {resource} ({parts}), and the cluster has "
                f"{there:g}; lower {lower}, or add nodes"
            )
