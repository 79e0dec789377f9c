"""A GRPO run from its recipe to its summary: everything around the loop."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.table import Table

from actors.cluster import RunningActors, check_cluster, ray_session, running_actors
from actors.gauges import Gauges
from actors.preflight import preflight
from actors.warm_start import blank_policy, cached_policy, make_start_policy
from configs.load import Command, save_recipe
from configs.schema import DataConfig, GRPORecipe
from models.inputs import InputEncoder
from rewards.check import check_rewards
from rl.checkpoints import Checkpoint, Checkpoints
from rl.console import CONSOLE, phase
from rl.evaluation import HeldOut
from rl.interfaces import Parts
from rl.plan import Device, device_of, planned_actors, transport_of
from rl.problems import ProblemSet
from rl.run_log import RunLog, set_aside
from rl.summary import summarise

Train = Callable[[GRPORecipe, Parts, int], None]
"""The loop: recipe, parts, first step."""


class NothingToResume(ValueError):
    """--resume was asked for, and there is no whole checkpoint."""


def grpo_run(command: Command[GRPORecipe], train: Train) -> None:
    """Run `train` on the actors that the recipe asks for; or, with --dry-run, only show them."""
    recipe = command.recipe
    if command.dry_run:
        show_plan(recipe)
        return
    checkpoints = Checkpoints(recipe.run_folder / "checkpoints", recipe.checkpoint.keep)
    newest = checkpoints.newest() if command.resume else None
    if command.resume and newest is None:
        raise NothingToResume(
            f"--resume: {recipe.run_folder} holds no whole checkpoint; name the run that should go "
            "on, or start it without --resume"
        )
    with ray_session():
        device = check_cluster(recipe)
        if newest is None:
            aside = set_aside(recipe.run_folder)
            if aside is not None:
                CONSOLE.print(f"an older run of this name now lies in {aside}")
        save_recipe(recipe, recipe.run_folder)
        problems, folder = _problems_and_policy(recipe, device)
        with _started(recipe, folder, device) as actors:
            _train(recipe, train, problems, folder, actors, (checkpoints, newest))


def _problems_and_policy(recipe: GRPORecipe, device: Device) -> tuple[ProblemSet, Path]:
    """The training problems, and the folder of the start policy, made where there is none."""
    made = cached_policy(recipe)
    folder = Path(recipe.policy.path or made)
    blank = not recipe.policy.path and not made.is_dir()
    encoder = _encoder(recipe, blank_policy(recipe) if blank else folder)
    problems = _open(recipe, recipe.data, encoder, "rejected.jsonl")
    check_rewards(recipe.reward, problems.first(1)[0])
    if blank:
        make_start_policy(recipe, problems, encoder, device)
    return problems, folder


def _encoder(recipe: GRPORecipe, folder: Path) -> InputEncoder:
    return InputEncoder(folder, recipe.prompt, recipe.policy.trust_remote_code)


def _open(recipe: GRPORecipe, data: DataConfig, encoder: InputEncoder, rejected: str) -> ProblemSet:
    return ProblemSet.open(
        data,
        measure=encoder.measure,
        max_prompt_tokens=recipe.prompt.max_tokens,
        rejected=recipe.run_folder / rejected,
        seed=recipe.seed,
    )


@contextmanager
def _started(recipe: GRPORecipe, folder: Path, device: Device) -> Iterator[RunningActors]:
    with running_actors(recipe, folder, device) as actors:
        with phase("starting engines and learners"):
            actors.start()
        yield actors


def _train(
    recipe: GRPORecipe,
    train: Train,
    problems: ProblemSet,
    folder: Path,
    actors: RunningActors,
    saved: tuple[Checkpoints, Checkpoint | None],
) -> None:
    checkpoints, newest = saved
    first = newest.step if newest else 0
    if newest:
        actors.learners.restore(newest.learner)
        CONSOLE.print(f"going on from step {first}, {newest.folder}")
    actors.rollouts.publish(first)
    encoder = _encoder(recipe, folder)
    gap = preflight(recipe, problems, encoder, actors)
    CONSOLE.print(f"engine and learner agree: prompts equal, logprobs {gap:.1e} nats apart")

    evaluate = None
    if recipe.evaluation.data is not None:
        held_out = _open(recipe, recipe.evaluation.data, encoder, "rejected_held_out.jsonl")
        asked = held_out.first(recipe.evaluation.problems)
        evaluate = HeldOut(recipe, asked, actors.rollouts)

    def save(step: int) -> None:
        def fill(checkpoint: Checkpoint) -> None:
            actors.learners.save(checkpoint.learner)
            actors.learners.export(checkpoint.policy)
            save_recipe(recipe, checkpoint.folder)

        checkpoints.write(step, fill)

    resume = first if newest else None
    with RunLog(recipe.run_folder, recipe, gauge=Gauges(recipe.name), resume=resume) as log:
        if evaluate and not newest:
            log.write_evaluation(0, evaluate())
        train(recipe, Parts(problems, actors.rollouts, actors.learners, evaluate, log, save), first)
        summary = summarise(recipe.run_folder)
        summary |= {
            "syncs_verified": actors.rollouts.syncs_verified,
            "rollout_restarts": actors.pools.engines.restarts,
            "rejected_rows": sum(problems.rejected.values()),
        }
        log.write_summary(summary)


def show_plan(recipe: GRPORecipe) -> None:
    """Print the resolved recipe and the actors that it would start."""
    from configs.load import recipe_text

    resources: dict[str, Any] = {}
    device = device_of(recipe, resources)
    CONSOLE.print(recipe_text(recipe), markup=False, highlight=False)
    table = Table("role", "actors", "GPUs each", "cores each", "what")
    for actors in planned_actors(recipe, device):
        cells = (actors.role, actors.count, f"{actors.gpus:g}", f"{actors.cpus:g}", actors.what)
        table.add_row(*map(str, cells))
    CONSOLE.print(table)
    CONSOLE.print(f"device {device}, weights travel by {transport_of(recipe, device)}")
