"""What a run's actors hold of GPUs and of their hosts, GiB, told from configs alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

from transformers import AutoConfig

from actors.cluster.plan import Recipe, server_of
from actors.weight_transfer.rendezvous import shared_buffer_bytes
from configs.jobs.generate import GenerationRecipe
from configs.jobs.grpo import GRPORecipe
from configs.jobs.sft import SupervisedRecipe
from configs.schema.policy import ModelConfig, PolicyConfig
from models.policy.memory import MemoryEstimator
from rl.planning.architectures import ARCHITECTURES

CUDA_GIB = 4.0
"""Of a GPU: contexts, workspaces, CUDA graphs and fragments, which no sum here knows."""
_GIB = 2**30
_PROCESS_GIB = 3.0
"""Of a host: a process with torch and CUDA in it."""
_KEPT_AT_REST = ("weights", "reference", "gradients", "optimizer", "bucket")
_IMAGE_CACHE_GIB = 4.0
"""vLLM's cache of processed images, of each engine (its default, mm_processor_cache_gb)."""
_VERIFIER_GIB = 0.3
"""One verifier process with sympy in it."""
_PIXEL_BYTES = 4 * 3
"""A pixel as the model reads it: three colours in float32."""
_READY_BATCHES = 2
"""Micro-batches whose pixels a rank has on its host: one at work, one being cut."""


@dataclass(frozen=True, slots=True)
class OnGPU:
    """What one process, or two that share a GPU, hold of it."""

    who: str
    parts: dict[str, float]
    """GiB by what they are."""
    note: str = ""
    tight: tuple[str, ...] = ()
    """Why it does not keep to the share of the GPU that the recipe gives it."""

    @property
    def total(self) -> float:
        """All of it, CUDA's own included."""
        return sum(self.parts.values()) + CUDA_GIB

    @property
    def at_rest(self) -> float:
        """What a learner's rank holds while it does not learn, CUDA's own included."""
        return CUDA_GIB + sum(size for what, size in self.parts.items() if what in _KEPT_AT_REST)


@dataclass(frozen=True, slots=True)
class Memory:
    """What is held, by who holds it."""

    gpus: tuple[OnGPU, ...]
    hosts: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])
    """Of one actor of a role, and of the driver: GiB of its node's memory, by what they are."""
    parameters: dict[str, float] = field(default_factory=dict[str, float])
    """Of the policy, billions, by part."""
    learning: float = 0.0
    """Of them, billions that learn."""
    travelling: dict[str, float] = field(default_factory=dict[str, float])
    """Of a GPU that a learner rank and an engine share, while weights travel: GiB by what they are;
    empty where none is shared."""


def estimator(policy: ModelConfig) -> MemoryEstimator | None:
    """The policy's, from its config on this machine, or among those that are known; None: neither.

    Raises:
        ValueError: its parts are not those that the recipe trains.
    """
    if not isinstance(policy, PolicyConfig):  # as one that could learn, as estimates want it
        shared = {name: getattr(policy, name) for name in ModelConfig.model_fields}
        policy = PolicyConfig.model_validate(shared)
    return _estimator(policy.model_dump_json()) if policy.path else None


@cache
def _estimator(policy_json: str) -> MemoryEstimator | None:
    """Cached, as the search for a change that fits asks again and again."""
    policy = PolicyConfig.model_validate_json(policy_json)
    trust = {"trust_remote_code": policy.trust_remote_code}
    try:
        config = AutoConfig.from_pretrained(policy.path, local_files_only=True, **trust)
    except OSError:
        known = ARCHITECTURES.get(policy.path)
        return MemoryEstimator(known(), policy) if known else None
    return MemoryEstimator(config, policy)


def longest_row(recipe: Recipe) -> int:
    """Tokens of the longest prompt with its answer, or of the longest chat."""
    if isinstance(recipe, SupervisedRecipe):
        return recipe.prompt.max_tokens
    return recipe.prompt.max_tokens + recipe.rollout.max_new_tokens


def memory_of(recipe: Recipe, gpu_gib: float | None) -> Memory | None:
    """What the recipe's actors hold; None: the policy's shape is not known, or a server answers.

    Raises:
        DoesNotFit: attention heads do not divide over an engine's GPUs.
    """
    if isinstance(recipe, GenerationRecipe) and server_of(recipe):
        return None
    shape = estimator(recipe.policy)
    if shape is None:
        return None
    gpus: list[OnGPU] = []
    hosts: dict[str, dict[str, float]] = {}
    travelling: dict[str, float] = {}
    learning = 0.0
    if not isinstance(recipe, GenerationRecipe):
        gpus.append(_learner(recipe, shape))
        hosts["learner"] = _learner_host(recipe, shape)
        learning = shape.learning / 1e9
    if not isinstance(recipe, SupervisedRecipe):
        gpus.append(_engine(recipe, shape, gpu_gib))
        hosts["rollout"] = _engine_host(recipe, shape)
        hosts["reward"] = {"processes": recipe.reward.processes * _VERIFIER_GIB}
    if isinstance(recipe, GRPORecipe):
        if recipe.sync.shared_gpu:
            travelling = _travelling(recipe, shape, *gpus)
        gpus += _frozen(recipe, shape)
        hosts |= {role: {"processes": _PROCESS_GIB} for role in ("reference", "teacher")}
        hosts["driver"] = {"images": _images_under_way(recipe, shape)}
    parameters = {part: size / 1e9 for part, size in shape.sizes.items()}
    return Memory(tuple(gpus), hosts, parameters, learning, travelling)


def _learner(recipe: GRPORecipe | SupervisedRecipe, shape: MemoryEstimator) -> OnGPU:
    # All rows of a micro-batch go through the tower together: nearly all tokens may be images'.
    tokens = recipe.learner.max_tokens_per_microbatch
    held = shape.learner(recipe.learner, image_tokens=tokens)
    on_gpu, on_host = _reference_shard(recipe, shape)
    copied = on_gpu + on_host > 0
    waits = _moments(recipe, held.optimizer)
    parts = {
        "weights": held.weights,
        **({"reference": on_gpu} if on_gpu else {}),
        "gradients": held.gradients,
        "optimizer": held.optimizer - waits,
        **({"moments": waits} if waits else {}),
        **({"bucket": held.bucket} if held.bucket else {}),
        # A copy's weights come before the learner's, and go.
        "gathered": max(held.buffers, shape.gathered(recipe.learner) if copied else 0.0),
        "activations": held.activations,
        "logits": held.logits,
    }
    beyond = held.step - sum(parts[name] for name in ("gathered", "activations", "logits"))
    if beyond > 0:  # activations are gone by then
        parts["optimizer's step"] = beyond
    if recipe.features.keep != "off" and recipe.learner.zero_stage == 3:
        frozen = {"vision", "projector"}.difference(recipe.policy.train)
        left_out = sum(size for part, size in shape.sizes.items() if part in frozen)
        tower = shape.whole * left_out / sum(shape.sizes.values())
        parts["tower"] = tower * (1 - 1 / recipe.learner.ranks)  # each rank has it whole
    return OnGPU("learner rank", parts)


def _moments(recipe: GRPORecipe | SupervisedRecipe, optimizer: float) -> float:
    """GiB of a rank's `optimizer` that wait on the host while engines are awake: of AdamW's twelve
    bytes a weight its two moments."""
    waits = isinstance(recipe, GRPORecipe) and recipe.sync.offload_optimizer
    return optimizer * 2 / 3 if waits else 0.0


def _reference_shard(
    recipe: GRPORecipe | SupervisedRecipe, shape: MemoryEstimator
) -> tuple[float, float]:
    """GiB of a copy's shard on a learner rank's GPU, and on its host."""
    if not isinstance(recipe, GRPORecipe) or recipe.reference_in != "shards":
        return 0.0, 0.0
    shard = shape.whole / recipe.learner.ranks
    return (0.0, shard) if recipe.reference.offload else (shard, 0.0)


def _engine(
    recipe: GRPORecipe | GenerationRecipe, shape: MemoryEstimator, gpu_gib: float | None
) -> OnGPU:
    rollout = recipe.rollout
    held = shape.engine(rollout, longest_row(recipe))
    wanted = (
        f"rollout.max_num_seqs={rollout.max_num_seqs} answers of full length take "
        f"{rollout.max_num_seqs * held.answer_cache:.1f} GiB of KV cache"
    )
    if gpu_gib is None:
        parts = {"weights": held.weights, "KV cache": held.answer_cache}
        return OnGPU("engine", parts, f"KV cache of one answer of full length; {wanted}")
    own = rollout.gpu_memory_utilization * gpu_gib - CUDA_GIB
    room = max(0.0, own - held.weights)
    parts = {"weights": held.weights, "KV cache": room}
    if room < held.answer_cache:
        share = f"rollout.gpu_memory_utilization={rollout.gpu_memory_utilization:g}"
        why = (
            f"an engine needs {held.weights + held.answer_cache:.1f} GiB of each GPU for weights "
            f"and one answer of full length, and {share} leaves it {max(0.0, own):.1f}"
        )
        return OnGPU("engine", parts, tight=(why,))
    many = int(room / held.answer_cache)
    if many >= rollout.max_num_seqs:
        return OnGPU("engine", parts, f"{wanted}, which there is room for")
    note = (
        f"{wanted}; there is room for {many}, so that longer ones are put off where many are long: "
        f"rollout.max_num_seqs={many} never does that"
    )
    return OnGPU("engine", parts, note)


def _engine_host(recipe: GRPORecipe | GenerationRecipe, shape: MemoryEstimator) -> dict[str, float]:
    """Of one engine: its actor, its core, and a process of each device where there are several;
    asleep, what of its weights no update brings, and so all of them."""
    width = recipe.rollout.tensor_parallel_size
    sleeps = isinstance(recipe, GRPORecipe) and recipe.engines_sleep
    kept = width * shape.engine(recipe.rollout, longest_row(recipe)).weights
    return {
        "processes": (2 + (width if width > 1 else 0)) * _PROCESS_GIB,
        "images": _IMAGE_CACHE_GIB if shape.pixels_per_image_token else 0.0,
        "asleep": kept if sleeps and shape.learning < sum(shape.sizes.values()) else 0.0,
    }


def _travelling(
    recipe: GRPORecipe, shape: MemoryEstimator, rank: OnGPU, engine: OnGPU
) -> dict[str, float]:
    """Of a GPU that both share: what rests of the rank, a layer that it gathers, its buffer, what
    the engine has copied out of it, and the engine itself, which sleeps but for its weights."""
    buffer = shared_buffer_bytes(shape.largest) / _GIB
    cache = {} if recipe.engines_sleep else {"KV cache": engine.parts["KV cache"]}
    return {
        "at rest": rank.at_rest - CUDA_GIB,
        "gathered": rank.parts["gathered"],
        "buffers": 2 * buffer,
        "engine": engine.parts["weights"],
        **cache,
        "CUDA": 2 * CUDA_GIB,
    }


def _frozen(recipe: GRPORecipe, shape: MemoryEstimator) -> list[OnGPU]:
    """The reference and the teacher, each whole on a GPU of its own."""
    models = {"reference": shape} if recipe.reference_in == "actor" else {}
    if recipe.teacher is not None:
        path = recipe.teacher.path or recipe.policy.path
        teacher = estimator(recipe.teacher.model_copy(update={"path": path}))
        models |= {"teacher": teacher} if teacher else {}
    return [OnGPU(who, _read_by(recipe, model)) for who, model in models.items()]


def _read_by(recipe: GRPORecipe, model: MemoryEstimator) -> dict[str, float]:
    reading = model.reading(recipe.learner, recipe.learner.max_tokens_per_microbatch)
    logits = model.logits(recipe.learner)
    return {"weights": model.whole, "activations": reading, "logits": logits}


def _learner_host(
    recipe: GRPORecipe | SupervisedRecipe, shape: MemoryEstimator
) -> dict[str, float]:
    """Of one rank. Weights are read as pages of files, which the system may drop; features that are
    kept are as many as there are images, which nobody knows here, and features.max_bytes bounds
    them."""
    pixels = recipe.learner.max_tokens_per_microbatch * shape.pixels_per_image_token
    held = shape.learner(recipe.learner)
    return {
        "processes": _PROCESS_GIB,
        "weights": held.host_weights,
        "optimizer": held.host_optimizer + _moments(recipe, held.optimizer),
        "gradients": held.host_gradients,
        "reference": _reference_shard(recipe, shape)[1],
        "images": _READY_BATCHES * pixels * _PIXEL_BYTES / _GIB,
    }


def _images_under_way(recipe: GRPORecipe, shape: MemoryEstimator) -> float:
    """At most, in the object store: an image's file is hardly larger than its pixels' bytes."""
    problems = recipe.problems_per_step * (recipe.max_staleness + 2)
    return problems * recipe.prompt.max_tokens * shape.pixels_per_image_token * 3 / _GIB


def fullest_host(memory: Memory, on_nodes: Sequence[dict[str, int]]) -> dict[str, float]:
    """GiB by what they are, on the node that holds most; the driver's is counted on it."""
    sums: list[dict[str, float]] = []
    for roles in on_nodes:
        held: dict[str, float] = dict(memory.hosts.get("driver", {}))
        for role, count in roles.items():
            for what, gib in memory.hosts.get(role, {}).items():
                held[what] = held.get(what, 0.0) + count * gib
        sums.append(held)
    return max(sums, key=lambda held: sum(held.values()), default={})
