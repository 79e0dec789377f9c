"""What --dry-run shows: the resolved recipe, the actors it would start, and their GPU memory."""

from rich.table import Table

from actors.cluster.plan import (
    PlannedActors,
    device_of,
    planned_actors,
    planned_ranks,
    transport_of,
)
from configs.loading.recipe import Command, recipe_text
from configs.schema.grpo import GRPORecipe
from configs.schema.run import Device
from configs.schema.sft import AlignRecipe, SFTRecipe, SupervisedRecipe
from rl.console.progress import CONSOLE


def dry_run_only(
    command: Command[GRPORecipe] | Command[SFTRecipe] | Command[AlignRecipe],
) -> bool:
    """Show what the command would start, if it says --dry-run; True if it does."""
    if command.dry_run:
        print_plan(command.recipe)
    return command.dry_run


def print_plan(recipe: GRPORecipe | SupervisedRecipe) -> None:
    """Print the resolved recipe and what it would start. Nothing is started or downloaded.

    Raises:
        DoesNotFit: no machine can run it as it stands.
    """
    device = device_of(recipe, {})
    CONSOLE.print(recipe_text(recipe))
    plan = _plan(recipe, device)
    CONSOLE.print(plan_table(plan))
    travel = ""
    if isinstance(recipe, GRPORecipe):
        travel = f", weights travel by {transport_of(recipe, device)}"
    CONSOLE.print(f"device {device}{travel}")
    if device == "cuda":
        gpus, cores = (sum(a.count * getattr(a, kind) for a in plan) for kind in ("gpus", "cpus"))
        CONSOLE.print(f"reserves {gpus:g} GPUs and {cores:g} cores in all")
        for line in memory_lines(recipe):
            CONSOLE.print(line)
    elif recipe.device == "auto":
        CONSOLE.print(
            "device=auto was taken for a machine without GPUs, as --dry-run asks no cluster; add "
            "device=cuda to see the plan on GPUs"
        )


def _plan(recipe: GRPORecipe | SupervisedRecipe, device: Device) -> list[PlannedActors]:
    if isinstance(recipe, GRPORecipe):
        return planned_actors(recipe, device)
    return planned_ranks(recipe, device)


def memory_lines(recipe: GRPORecipe | SupervisedRecipe) -> list[str]:
    """What learners and engines would hold on a GPU, where the policy's config can be read.

    Raises:
        DoesNotFit: the policy's attention heads do not divide over an engine's GPUs.
    """
    from models.policy.memory import MemoryEstimator

    try:
        skeleton = MemoryEstimator.read(recipe.policy)
    except OSError:
        return [f"GPU memory is not estimated: no config of {recipe.policy.path!r} on this machine"]
    learner = skeleton.learner(recipe.learner)
    parts = ", ".join(f"{part} {size / 1e9:.3g}" for part, size in skeleton.sizes.items())
    lines = [
        f"parameters, billions: {parts}; {skeleton.learning / 1e9:.3g} learn",
        f"a learner rank holds about {learner.total:.1f} GiB: weights {learner.weights:.1f}, "
        f"gradients {learner.gradients:.1f}, optimizer {learner.optimizer:.1f}, buffers "
        f"{learner.buffers:.1f}, activations {learner.activations:.1f}",
    ]
    if isinstance(recipe, GRPORecipe):
        longest = recipe.prompt.max_tokens + recipe.rollout.max_new_tokens
        engine = skeleton.engine(recipe.rollout, longest)
        lines.append(
            f"an engine holds {engine.weights:.1f} GiB of weights on each GPU; of its "
            f"gpu_memory_utilization={recipe.rollout.gpu_memory_utilization:g} the rest is for "
            f"keys and values, {engine.answer_cache:.2f} GiB for each answer of full length"
        )
    return lines


def plan_table(plan: list[PlannedActors]) -> Table:
    """The plan for a person."""
    table = Table("role", "actors", "GPUs each", "cores each", "what")
    for actors in plan:
        cells = (actors.role, actors.count, f"{actors.gpus:g}", f"{actors.cpus:g}", actors.what)
        table.add_row(*map(str, cells))
    return table
