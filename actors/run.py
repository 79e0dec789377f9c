"""A GRPO run from its recipe to its summary: everything around the loop."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from actors.cluster import RunningActors, check_cluster, running_actors
from actors.dry_run import show_plan
from actors.folders import check_outlives_job
from actors.gauges import Gauges
from actors.preflight import preflight
from actors.session import ray_session
from actors.start_policy import blank_policy, cached_policy, make_start_policy
from configs.load import SAVED_AS, Command, save_recipe
from configs.schema import DataConfig, GRPORecipe
from models.check import check_policy
from models.inputs import InputEncoder
from rewards.check import check_rewards
from rl.checkpoints import Checkpoint, Checkpoints
from rl.console import CONSOLE, phase
from rl.evaluation import HeldOut
from rl.interfaces import Parts
from rl.plan import Device
from rl.problems import ProblemSet
from rl.refusal import refusing
from rl.resume import check_same_problems
from rl.run_log import RunLog, set_aside
from rl.summary import summarise

Train = Callable[[GRPORecipe, Parts, int], None]
"""The loop: recipe, parts, first step."""


def grpo_run(command: Command[GRPORecipe], train: Train) -> None:
    """Run `train` on the actors that the recipe asks for; or, with --dry-run, only show them."""
    recipe = command.recipe
    if command.dry_run:
        show_plan(recipe)
        return
    checkpoints = Checkpoints(recipe.run_folder / "checkpoints", recipe.checkpoint.keep)
    newest = checkpoints.to_resume() if command.resume else None
    if newest:
        check_same_problems(newest.folder / SAVED_AS, recipe)
    check_outlives_job(recipe.run_folder)
    with ray_session():
        device = check_cluster(recipe)
        if newest is None:
            aside = set_aside(recipe.run_folder)
            if aside is not None:
                CONSOLE.print(f"an older run of this name now lies in {aside}")
        save_recipe(recipe, recipe.run_folder)
        problems, folder = _problems_and_policy(recipe)
        with _started(recipe, folder, device) as actors:
            _train(recipe, train, problems, folder, actors, (checkpoints, newest))


def _problems_and_policy(recipe: GRPORecipe) -> tuple[ProblemSet, Path]:
    """The training problems, and the folder of the start policy, made where there is none."""
    made = cached_policy(recipe)
    folder = Path(recipe.policy.path or made)
    blank = not recipe.policy.path and not made.is_dir()
    there = blank_policy(recipe) if blank else folder
    check_policy(recipe.policy.model_copy(update={"path": str(there)}))
    with (
        refusing()
    ):  # where the processor, the data or a reward of the user's own is not to be used
        problems = _open(recipe, recipe.data, _encoder(recipe, there), "rejected.jsonl")
        check_rewards(recipe.reward, problems.first(1)[0])
    if blank:
        make_start_policy(recipe)
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
            actors.learners.check_folder(recipe.run_folder)
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
