"""What --dry-run shows: the resolved recipe, the actors it would start, and their GPU memory."""

from rich.table import Table

from actors.cluster.plan import Plan, plan_of, server_of
from configs.jobs.generate import GenerationRecipe
from configs.jobs.grpo import GRPORecipe
from configs.jobs.sft import SupervisedRecipe
from configs.loading.recipe import recipe_text
from configs.schema.policy import ModelConfig, PolicyConfig
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
        DoesNotFit: the policy's attention heads do not divide over an engine's GPUs.
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
    if not isinstance(recipe, GenerationRecipe):
        lines = [f"{lines[0]}; {skeleton.learning / 1e9:.3g} learn"]
        learner = skeleton.learner(recipe.learner)
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
    return lines


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
