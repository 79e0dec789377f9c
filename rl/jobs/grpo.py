"""A GRPO run from its recipe to its summary: everything around the loop."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from actors.cluster.gauges import Gauges
from actors.cluster.plan import Plan
from actors.cluster.ray_session import ray_session
from actors.cluster.shared_folder import check_outlives_job
from configs.jobs.grpo import GRPORecipe
from models.inputs.encoder import InputEncoder
from models.inputs.think_tags import reward_for_template
from models.policy.check import check_policy
from models.policy.export_check import check_export
from rewards.trial import check_gold, try_rewards
from rl.algorithms.best_policy import BestPolicy
from rl.algorithms.evaluation import HeldOutEvaluator
from rl.algorithms.interfaces import GRPOParts
from rl.algorithms.sample_buffer import SampleBuffer
from rl.console.progress import CONSOLE, phase
from rl.data.problems import ProblemSet
from rl.data.records import Problem
from rl.jobs.grpo_actors import RunningActors, running_actors
from rl.jobs.preflight import graded_answer, preflight
from rl.jobs.prepare import check_resume, checkpoints_of, open_rows, plan_run
from rl.jobs.teacher import TeacherPrompts
from rl.run_log.console_lines import graded_answer_text, print_line
from rl.run_log.summary import summarise
from rl.run_log.writer import RunLog
from rl.storage.checkpoints import Checkpoint, Checkpoints
from rl.storage.fingerprint import check_same_rows, save_fingerprint
from rl.storage.run_folder import archive_existing_run, save_recipe

_BUFFER = "sample_buffer.jsonl"
"""The sample buffer's file in a checkpoint."""
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
    with ray_session():
        grpo_in_session(recipe, train, start, resume)


def grpo_in_session(
    recipe: GRPORecipe, train: Train, start: StartPolicy | None, resume: bool = False
) -> None:
    """What `grpo_run` does, in the Ray session that is open."""
    checkpoints = checkpoints_of(recipe)
    newest = check_resume(recipe, checkpoints.to_resume()) if resume else None
    check_outlives_job(recipe.run_folder)
    plan = plan_run(recipe)
    if newest is None:
        archive_existing_run(recipe.run_folder)
        save_recipe(recipe, recipe.run_folder)
    ready = _prepared(recipe, start)
    if newest is not None:
        check_same_rows(newest.folder, ready.problems.fingerprints, recipe.data.source)
    with _started(ready.recipe, ready.folder, plan) as actors:
        _train(ready.recipe, train, ready, actors, (checkpoints, newest))


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What a run needs besides its actors."""

    recipe: GRPORecipe
    """With what its policy's chat template settles."""
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
    encoder = _encoder(recipe, there)
    check_export(there, encoder, recipe.policy.trust_remote_code)
    reward = reward_for_template(recipe.reward, encoder)
    recipe = recipe.model_copy(update={"reward": reward})
    problems, held_out = open_rows(recipe, ProblemSet.open, _measure(recipe, there, encoder))
    try_rewards(recipe.reward, problems.first(1)[0])
    if missing:
        missing.make()
    asked = held_out.first(recipe.evaluation.problems) if held_out else None
    return _Prepared(recipe, problems, asked, folder)


def _measure(recipe: GRPORecipe, folder: Path, encoder: InputEncoder) -> Callable[[Problem], int]:
    """Tokens of a problem's prompt; a problem that no answer can be scored on is a BadRow."""
    teacher = TeacherPrompts(recipe, recipe.teacher, folder) if recipe.teacher else None

    def measure(problem: Problem) -> int:
        check_gold(recipe.reward, problem)
        if teacher:
            teacher.check(problem)
        return encoder.measure(problem)

    return measure


def _encoder(recipe: GRPORecipe, folder: Path) -> InputEncoder:
    return InputEncoder(folder, recipe.prompt, recipe.policy.trust_remote_code)


def _buffer(
    recipe: GRPORecipe, problems: ProblemSet, newest: Checkpoint | None
) -> SampleBuffer | None:
    """The recipe's sample buffer, as the checkpoint left it."""
    if recipe.sample_buffer is None:
        return None
    made = SampleBuffer(recipe.sample_buffer, recipe.seed)
    if newest:
        asked = partial(problems.take, recipe.problems_per_step)
        made.restore(newest.folder / _BUFFER, lambda step: asked(step=step))
    return made


@contextmanager
def _started(recipe: GRPORecipe, folder: Path, plan: Plan) -> Generator[RunningActors]:
    with running_actors(recipe, folder, plan) as actors:
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
        save_recipe(recipe, recipe.run_folder)  # not before: what cannot go on leaves no trace
        CONSOLE.print(f"going on from step {first}, {newest.folder}")
    actors.weights.sync(first)
    gap = preflight(recipe, ready.problems, _encoder(recipe, ready.folder), actors)
    CONSOLE.print(f"engine and learner agree: prompts equal, logprobs {gap:.1e} nats apart")
    shown = graded_answer(recipe, ready.problems, actors)
    print_line(first, graded_answer_text(shown, recipe.reward.weights))

    buffer = _buffer(recipe, ready.problems, newest)
    before = checkpoints.best() if newest else None
    if before and before.step > first:
        before = None  # of a checkpoint that cannot be read, and will be made again
    best = BestPolicy(recipe.checkpoint.keep_best, before)
    evaluate = None
    if ready.held_out is not None:
        evaluate = HeldOutEvaluator(recipe, ready.held_out, actors.rollouts)

    def save(step: int) -> None:
        def fill(checkpoint: Checkpoint) -> None:
            actors.learners.save(checkpoint.learner)
            actors.learners.export(checkpoint.policy)
            if buffer is not None:
                buffer.save(checkpoint.folder / _BUFFER)
            save_recipe(recipe, checkpoint.folder)
            save_fingerprint(checkpoint.folder, ready.problems.fingerprints)

        checkpoints.write(step, fill, best=best.best)

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
            best=best,
            buffer=buffer,
        )
        train(recipe, parts, first)
        summary = summarise(recipe.run_folder)
        summary |= {
            "syncs_verified": actors.weights.verified,
            "rollout_restarts": actors.pools.engines.restarts,
            "rejected_rows": sum(ready.problems.rejected.values()),
        }
        if best.best:
            summary["best_step"] = best.best.step
        log.write_summary(summary)
