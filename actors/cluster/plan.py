"""The plan of a run: its device, the way of its weights, its actors; and whether they fit."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from configs.jobs.evaluate import AnsweringModel, ServerConfig
from configs.jobs.generate import GenerationRecipe
from configs.jobs.grpo import GRPORecipe
from configs.jobs.sft import SupervisedRecipe
from configs.schema.rollout import Transport
from configs.schema.run import Device
from rl.console.errors import DoesNotFit

Recipe = GRPORecipe | SupervisedRecipe | GenerationRecipe
"""A run that takes actors of its own."""


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
    resources: Mapping[str, float] = field(default_factory=dict[str, float])
    """What else each takes, by Ray's names (`cluster.resources`)."""
    together: int = 1
    """So many of them, one behind another, sit on one node."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will start, decided once and handed on."""

    device: Device
    actors: tuple[PlannedActors, ...]
    transport: Transport | None = None
    """How new weights reach the engines; None where there are no engines, or no new weights."""
    engines_sleep: bool = False
    """Whether engines give their GPUs' memory back while the learner learns."""

    @property
    def shares_gpus(self) -> bool:
        """Whether each engine sits on the GPUs of as many learner ranks as it has devices."""
        return self.transport == "ipc"

    def role(self, role: str) -> PlannedActors:
        """The actors of `role`, which the plan must have."""
        return next(actors for actors in self.actors if actors.role == role)

    def check_fits(self, resources: Mapping[str, float]) -> None:
        """Compare with the cluster; Ray would wait in silence for nodes that never come.

        `resources`: all GPUs and cores of the cluster, by Ray's names.

        Raises:
            DoesNotFit: says what is asked, what is there, and what to change.
        """
        for resource, per_actor in (("GPU", "gpus"), ("CPU", "cpus")):
            wanted = sum(each.count * getattr(each, per_actor) for each in self.actors)
            there = resources.get(resource, 0.0)
            if wanted > there:
                parts = ", ".join(
                    f"{each.count} {each.role} x {getattr(each, per_actor):g}"
                    for each in self.actors
                    if getattr(each, per_actor) > 0
                )
                raise DoesNotFit(
                    f"the recipe asks for {wanted:g} {resource} ({parts}), and the cluster has "
                    f"{there:g}; lower {self._keys()}, or add nodes"
                )

    def _keys(self) -> str:
        """Recipe keys that say how much is asked."""
        roles = {each.role for each in self.actors}
        if roles == {"learner"}:
            return "learner.ranks or learner.cpus_per_rank"
        ranks = ["learner.ranks"] if "learner" in roles else []
        engines = ["rollout.workers", "rollout.tensor_parallel_size", *ranks]
        return f"{', '.join(engines)} or reward.workers"


def plan_of(recipe: Recipe, resources: Mapping[str, float]) -> Plan:
    """The plan of a run on a cluster with `resources`; none: a machine without GPUs.

    Raises:
        DoesNotFit: the recipe names a transport or kernels that the device does not have.
    """
    device = recipe.device
    if device == "auto":
        device = "cuda" if resources.get("GPU", 0) > 0 else "cpu"
    _check_kernels(recipe, device)
    if isinstance(recipe, SupervisedRecipe):
        return Plan(device, _with_resources(recipe, _supervised_rank(recipe, device)))
    if isinstance(recipe, GenerationRecipe):
        answering, rewards = _answering(recipe, device), _reward_workers(recipe, device)
        return Plan(device, _with_resources(recipe, answering, rewards))
    actors = _with_resources(recipe, *_grpo_actors(recipe, device))
    return Plan(device, actors, _transport(recipe, device), _engines_sleep(recipe, device))


def _with_resources(recipe: Recipe, *actors: PlannedActors) -> tuple[PlannedActors, ...]:
    """The actors, with what the recipe says that each takes beside GPUs and cores."""
    asked = {str(role): resources for role, resources in recipe.cluster.resources.items()}
    roles = [each.role for each in actors]
    for role in sorted(asked.keys() - set(roles)):
        raise DoesNotFit(
            f"cluster.resources names {role}, and this run has no actor of that role, only "
            f"{', '.join(roles)}; leave it out"
        )
    return tuple(replace(each, resources=asked.get(each.role, {})) for each in actors)


def _check_kernels(recipe: Recipe, device: Device) -> None:
    if isinstance(recipe, GenerationRecipe) or device == "cuda":
        return
    if recipe.policy.vision_attention.startswith("flash"):
        raise DoesNotFit(
            f"policy.vision_attention={recipe.policy.vision_attention} on a CPU: FlashAttention "
            "runs on GPUs; set it to sdpa"
        )
    if (
        isinstance(recipe, GRPORecipe)
        and recipe.rollout.routing_replay
        and not recipe.rollout.enforce_eager
    ):
        raise DoesNotFit(
            "rollout.routing_replay=true with rollout.enforce_eager=false on a CPU: an engine that "
            "is compiled there does not note which experts it chose; set enforce_eager to true"
        )


def server_of(recipe: GenerationRecipe) -> ServerConfig | None:
    """The server that answers in place of engines; None where engines are started."""
    return recipe.policy.server if isinstance(recipe.policy, AnsweringModel) else None


def _transport(recipe: GRPORecipe, device: Device) -> Transport:
    """The recipe's word, or what suits the device."""
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


def _engines_sleep(recipe: GRPORecipe, device: Device) -> bool:
    if recipe.sync.sleep and device == "cpu":
        raise DoesNotFit(
            "sync.sleep=true on a CPU: vLLM gives memory back on GPUs only; leave sync.sleep out"
        )
    sleep = recipe.engines_sleep and device == "cuda"
    if recipe.sync.offload_optimizer and (recipe.learner.offload or not sleep):
        why = "learner.offload=true keeps all of it there" if sleep else "no engine sleeps here"
        raise DoesNotFit(
            f"sync.offload_optimizer=true moves the optimizer's state to the host in turn with "
            f"engines that sleep, and {why}; leave sync.offload_optimizer out"
        )
    return sleep


def _grpo_actors(recipe: GRPORecipe, device: Device) -> list[PlannedActors]:
    """On a CPU machine actors reserve nothing: learner and engines take turns on the same cores."""
    gpu = 1.0 if device == "cuda" else 0.0
    cores = recipe.learner.cpus_per_rank * gpu
    plan = [
        _engines(recipe, device, shares=recipe.sync.shared_gpu),
        PlannedActors(
            role="learner",
            count=recipe.learner.ranks,
            gpus=gpu,
            cpus=cores,
            what=_rank(recipe),
            together=recipe.learner.ranks_per_row,
        ),
        _reward_workers(recipe, device),
    ]
    if recipe.reference_in == "actor":
        plan.append(PlannedActors("reference", 1, gpu, gpu, "frozen start policy"))
    if recipe.teacher is not None:
        what = f"frozen teacher {recipe.teacher.path or '(the start policy)'}"
        plan.append(PlannedActors("teacher", 1, gpu, gpu, what))
    return plan


def _answering(recipe: GenerationRecipe, device: Device) -> PlannedActors:
    if (server := server_of(recipe)) is not None:
        cores = 1.0 if device == "cuda" else 0.0
        return PlannedActors("rollout", 1, 0.0, cores, f"client of {server.endpoint}")
    return _engines(recipe, device)


def _engines(
    recipe: GRPORecipe | GenerationRecipe, device: Device, shares: bool = False
) -> PlannedActors:
    """`shares`: whether they sit on GPUs of learner ranks, which hold these whole: Ray would deal
    fractions out as it likes, two ranks on one GPU."""
    rollout, width = recipe.rollout, recipe.rollout.tensor_parallel_size
    gpu = 1.0 if device == "cuda" else 0.0
    what = f"vLLM engine, tensor parallel {width}"
    if rollout.max_workers:
        what += f"; up to {rollout.max_workers} as nodes join"
    if shares and gpu:
        what += f", on the GPU{'s' if width > 1 else ''} of {width} learner rank(s)"
    gpus = 0.0 if shares else gpu * width
    return PlannedActors("rollout", rollout.workers, gpus, rollout.cpus_per_worker * gpu, what)


def _reward_workers(recipe: GRPORecipe | GenerationRecipe, device: Device) -> PlannedActors:
    reward = recipe.reward
    cores = reward.processes if device == "cuda" else 0.0
    what = f"{reward.processes} verifier process(es): {', '.join(reward.weights)}"
    return PlannedActors("reward", reward.workers, 0.0, cores, what)


def _supervised_rank(recipe: SupervisedRecipe, device: Device) -> PlannedActors:
    """The workers of a supervised job, which also reserve their cores on a CPU machine."""
    learner = recipe.learner
    gpus = 1.0 if device == "cuda" else 0.0
    return PlannedActors("learner", learner.ranks, gpus, learner.cpus_per_rank, _rank(recipe))


def _rank(recipe: GRPORecipe | SupervisedRecipe) -> str:
    lora = recipe.policy.lora
    by = f" (language by adapters of rank {lora.rank})" if lora else ""
    learns = ", ".join(recipe.policy.train)
    shared = recipe.learner.ranks_per_row
    rows = f", {shared} to a row" if shared > 1 else ""
    return f"DeepSpeed rank, ZeRO {recipe.learner.zero_stage}{rows}, trains {learns}{by}"
