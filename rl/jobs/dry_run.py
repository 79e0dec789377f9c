"""What --dry-run shows: the resolved recipe, the actors it would start, and their GPU memory."""

from collections.abc import Mapping

from rich.table import Table

from actors.cluster.plan import Plan, plan_of, server_of
from configs.jobs.generate import GenerationRecipe
from configs.jobs.grpo import GRPORecipe
from configs.jobs.sft import SupervisedRecipe
from configs.loading.recipe import recipe_text
from configs.schema.policy import ModelConfig, PolicyConfig
from rl.console.errors import DoesNotFit
from rl.console.progress import CONSOLE
from rl.jobs.prepare import check_settings

Recipe = GRPORecipe | SupervisedRecipe | GenerationRecipe


def print_plan(recipe: Recipe) -> None:
    """Print the resolved recipe and what it would start. Nothing is started or downloaded.

    Raises:
        DoesNotFit: no machine can run it as it stands.
    """
    CONSOLE.print(recipe_text(recipe))
    check_settings(recipe)
    plan = plan_of(recipe, {})
    CONSOLE.print(plan_table(plan))
    travel = f", weights travel by {plan.transport}" if plan.transport else ""
    CONSOLE.print(f"device {plan.device}{travel}")
    if plan.device == "cuda":
        gpus = sum(each.count * each.gpus for each in plan.actors)
        cores = sum(each.count * each.cpus for each in plan.actors)
        CONSOLE.print(f"reserves {gpus:g} GPUs and {cores:g} cores in all")
        for line in memory_lines(recipe):
            CONSOLE.print(line)
    elif recipe.device == "auto":
        CONSOLE.print(
            "device=auto was taken for a machine without GPUs, as --dry-run asks no cluster; add "
            "device=cuda to see the plan on GPUs"
        )


def memory_lines(recipe: Recipe) -> list[str]:
    """What learners and engines would hold on a GPU, where the policy's config can be read.

    Raises:
        DoesNotFit: the policy's attention heads do not divide over an engine's GPUs, or a GPU has
            less memory than is needed.
    """
    from models.policy.memory import MemoryEstimator

    if isinstance(recipe, GenerationRecipe) and server_of(recipe):
        return []
    try:
        skeleton = MemoryEstimator.read(_as_learned(recipe.policy))
    except OSError:
        return [f"GPU memory is not estimated: no config of {recipe.policy.path!r} on this machine"]
    parts = ", ".join(f"{part} {size / 1e9:.3g}" for part, size in skeleton.sizes.items())
    lines = [f"parameters, billions: {parts}"]
    needs: dict[str, float] = {}
    if not isinstance(recipe, GenerationRecipe):
        lines = [f"{lines[0]}; {skeleton.learning / 1e9:.3g} learn"]
        place = recipe.reference_in if isinstance(recipe, GRPORecipe) else None
        if place == "actor":
            needs["a reference actor (reference.place=learner shards it)"] = skeleton.whole
            lines.append(f"a reference actor holds {skeleton.whole:.1f} GiB of weights")
        learner = skeleton.learner(recipe.learner, reference=place == "shards")
        own = 1.0
        if isinstance(recipe, GRPORecipe) and recipe.sync.shared_gpu:
            own -= recipe.rollout.gpu_memory_utilization
        needs["a learner rank (raise learner.ranks or zero_stage, set offload)"] = (
            learner.total / own
        )
        lines.append(
            f"a learner rank holds about {learner.total:.1f} GiB: weights {learner.weights:.1f}, "
            f"gradients {learner.gradients:.1f}, optimizer {learner.optimizer:.1f}, buffers "
            f"{learner.buffers:.1f}, activations {learner.activations:.1f}"
        )
    if not isinstance(recipe, SupervisedRecipe):
        longest = recipe.prompt.max_tokens + recipe.rollout.max_new_tokens
        engine = skeleton.engine(recipe.rollout, longest)
        lines.append(
            f"an engine holds {engine.weights:.1f} GiB of weights on each GPU; of its "
            f"gpu_memory_utilization={recipe.rollout.gpu_memory_utilization:g} the rest is for "
            f"keys and values, {engine.answer_cache:.2f} GiB for each answer of full length"
        )
        least = (engine.weights + engine.answer_cache) / recipe.rollout.gpu_memory_utilization
        needs["an engine (raise rollout.tensor_parallel_size)"] = least
    return [*lines, _compared(recipe, needs)]


def _compared(recipe: Recipe, needs: Mapping[str, float]) -> str:
    """The needs, GiB by who has them, beside what a GPU has.

    Raises:
        DoesNotFit: one of them needs more.
    """
    asked = None if isinstance(recipe, SupervisedRecipe) else recipe.cluster.gpu_memory_gib
    memory = asked or _memory_of_this_machine()
    if memory is None:
        hint = "" if isinstance(recipe, SupervisedRecipe) else ": name cluster.gpu_memory_gib"
        return f"not compared with a GPU, as this machine has none{hint}"
    over = [f"{who} needs about {gib:.0f} GiB" for who, gib in needs.items() if gib > memory]
    if over:
        raise DoesNotFit(f"a GPU has {memory:.0f} GiB, and {'; '.join(over)}")
    return f"fits a GPU of {memory:.0f} GiB"


def _memory_of_this_machine() -> float | None:
    """GiB of the smallest GPU here; None: there are none."""
    import torch

    count = torch.cuda.device_count()
    sizes = [torch.cuda.get_device_properties(i).total_memory / 2**30 for i in range(count)]
    return min(sizes, default=None)


def _as_learned(policy: ModelConfig) -> PolicyConfig:
    """The policy as one that could learn, as estimates want it."""
    if isinstance(policy, PolicyConfig):
        return policy
    shared = {name: getattr(policy, name) for name in ModelConfig.model_fields}
    return PolicyConfig.model_validate(shared)


def plan_table(plan: Plan) -> Table:
    """The plan for a person."""
    table = Table("role", "actors", "GPUs each", "cores each", "what")
    for actors in plan.actors:
        cells = (actors.role, actors.count, f"{actors.gpus:g}", f"{actors.cpus:g}", actors.what)
        table.add_row(*map(str, cells))
    return table
