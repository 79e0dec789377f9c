"""A GRPO run from its recipe to its summary: everything around the loop."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from actors.cluster.gauges import Gauges
from actors.cluster.ray_session import ray_session
from actors.cluster.shared_folder import check_outlives_job
from configs.loading.recipe import SAVED_AS
from configs.schema.data import DataConfig
from configs.schema.grpo import GRPORecipe
from configs.schema.run import Device
from models.inputs.encoder import InputEncoder
from models.policy.check import check_policy
from rewards.trial import try_rewards
from rl.algorithms.evaluation import HeldOutEvaluator
from rl.algorithms.interfaces import GRPOParts
from rl.console.errors import as_user_error
from rl.console.progress import CONSOLE, phase
from rl.data.problems import ProblemSet
from rl.data.records import Problem
from rl.jobs.grpo_actors import RunningActors, check_cluster, running_actors
from rl.jobs.preflight import preflight
from rl.jobs.resume import check_same_problems
from rl.run_log.summary import summarise
from rl.run_log.writer import RunLog
from rl.storage.checkpoints import Checkpoint, Checkpoints
from rl.storage.run_folder import archive_existing_run, save_recipe

Train = Callable[[GRPORecipe, GRPOParts, int], None]
"""The loop: recipe, parts, first step."""


class StartPolicy(Protocol):
    """A policy that is made where it is not cached."""

    @property
    def folder(self) -> Path:
        """Where it lies, or will."""
        ...

    def untrained(self) -> Path:
        """A policy with the same tokenizer and processor, made in an instant."""
        ...

    def make(self) -> Path:
        """Make it, in the Ray session that is open."""
        ...


def grpo_run(
    recipe: GRPORecipe, train: Train, start: StartPolicy | None, resume: bool = False
) -> None:
    """Run `train` on the actors that the recipe asks for, from the newest checkpoint or anew."""
    checkpoints = Checkpoints(recipe.run_folder / "checkpoints", recipe.checkpoint.keep)
    newest = checkpoints.to_resume() if resume else None
    if newest:
        check_same_problems(newest.folder / SAVED_AS, recipe)
    check_outlives_job(recipe.run_folder)
    with ray_session():
        device = check_cluster(recipe)
        if newest is None:
            archive_existing_run(recipe.run_folder)
        save_recipe(recipe, recipe.run_folder)
        ready = _prepared(recipe, start)
        with _started(recipe, ready.folder, device) as actors:
            _train(recipe, train, ready, actors, (checkpoints, newest))


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What a run needs besides its actors."""

    problems: ProblemSet
    held_out: list[Problem] | None
    folder: Path
    """The start policy's."""


def _prepared(recipe: GRPORecipe, start: StartPolicy | None) -> _Prepared:
    """All that the recipe names, looked at; then the start policy is made where there is none."""
    folder = start.folder if start else Path(recipe.policy.path)
    missing = start if start and not folder.is_dir() else None
    there = missing.untrained() if missing else folder
    check_policy(recipe.policy.model_copy(update={"path": str(there)}))
    with (
        as_user_error()
    ):  # where the processor, the data or a reward of the user's own is not to be used
        encoder = _encoder(recipe, there)
        held_out = None  # few, so what is wrong with them is told before all others are read
        if recipe.evaluation.data is not None:
            found = _open(recipe, recipe.evaluation.data, encoder, "rejected_held_out.jsonl")
            held_out = found.first(recipe.evaluation.problems)
        problems = _open(recipe, recipe.data, encoder, "rejected.jsonl")
        try_rewards(recipe.reward, problems.first(1)[0])
    if missing:
        missing.make()
    return _Prepared(problems, held_out, folder)


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
def _started(recipe: GRPORecipe, folder: Path, device: Device) -> Generator[RunningActors]:
    with running_actors(recipe, folder, device) as actors:
        with phase("starting engines and learners"):
            actors.learners.check_folder(recipe.run_folder)
            actors.start()
        yield actors


def _train(
    recipe: GRPORecipe,
    train: Train,
    ready: _Prepared,
    actors: RunningActors,
    saved: tuple[Checkpoints, Checkpoint | None],
) -> None:
    checkpoints, newest = saved
    first = newest.step if newest else 0
    if newest:
        actors.learners.restore(newest.learner)
        CONSOLE.print(f"going on from step {first}, {newest.folder}")
    actors.weights.sync(first)
    gap = preflight(recipe, ready.problems, _encoder(recipe, ready.folder), actors)
    CONSOLE.print(f"engine and learner agree: prompts equal, logprobs {gap:.1e} nats apart")

    evaluate = None
    if ready.held_out is not None:
        evaluate = HeldOutEvaluator(recipe, ready.held_out, actors.rollouts)

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
        parts = GRPOParts(
            ready.problems,
            actors.rollouts,
            actors.learners,
            weights=actors.weights,
            evaluate=evaluate,
            log=log,
            save=save,
        )
        train(recipe, parts, first)
        summary = summarise(recipe.run_folder)
        summary |= {
            "syncs_verified": actors.weights.verified,
            "rollout_restarts": actors.pools.engines.restarts,
            "rejected_rows": sum(ready.problems.rejected.values()),
        }
        log.write_summary(summary)
