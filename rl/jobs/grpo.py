"""A GRPO run from its recipe to its summary: everything around the loop."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from actors.cluster.metrics import Metrics, span
from actors.cluster.plan import Plan
from actors.cluster.ray_session import ray_session
from actors.cluster.shared_folder import check_run_folder
from actors.training.learner_group import LearnerDied
from actors.weight_transfer.sync import SyncOverdue
from configs.jobs.grpo import GRPORecipe
from models.inputs.encoder import InputEncoder
from models.inputs.think_tags import reward_for_template
from models.inputs.token_texts import TokenTexts
from models.policy.check import check_experts, check_policy
from models.policy.export_check import check_export
from models.policy.families import (
    check_packing,
    check_routing_replay,
    check_sequence_parallel,
    check_sync,
)
from rewards.trial import try_rewards
from rl.algorithms.best_policy import BestPolicy
from rl.algorithms.evaluation import HeldOutEvaluator
from rl.algorithms.interfaces import GRPOParts
from rl.console.errors import UserError
from rl.console.progress import CONSOLE, phase
from rl.data.records import Problem
from rl.data.training_problems import TrainingProblems
from rl.jobs.grpo_actors import RunningActors, running_actors
from rl.jobs.preflight import graded_answer, preflight
from rl.jobs.prepare import (
    StartPolicy,
    check_features,
    check_resume,
    check_sources,
    checkpoints_of,
    open_problems,
    plan_run,
    with_absolute_folders,
)
from rl.jobs.resume import Progress
from rl.jobs.teacher import prompt_measure
from rl.run_log.console_lines import graded_answer_text, print_line
from rl.run_log.summary import summarise
from rl.run_log.writer import RunLog
from rl.storage.checkpoints import Checkpoint, Checkpoints
from rl.storage.fingerprint import check_same_rows
from rl.storage.run_folder import aside_of, save_recipe, take_run_folder

Train = Callable[[GRPORecipe, GRPOParts, int], None]
"""The loop: recipe, parts, first step."""


def grpo_run(
    recipe: GRPORecipe, train: Train, start: StartPolicy | None, resume: bool = False
) -> None:
    """Run `train` on the actors that the recipe asks for, from the newest checkpoint or anew."""
    looked = _look(recipe, start, resume)
    with ray_session():
        _run(looked, train, start)


def grpo_in_session(
    recipe: GRPORecipe, train: Train, start: StartPolicy | None, resume: bool = False
) -> None:
    """What `grpo_run` does, in the Ray session that is open."""
    _run(_look(recipe, start, resume), train, start)


@dataclass(frozen=True, slots=True)
class _Looked:
    """What was looked at before Ray starts."""

    recipe: GRPORecipe
    """With absolute folders, and what its policy's chat template settles."""
    folder: Path
    """The start policy's, or where it will be."""
    tokenizer: Path
    """A checkpoint of its tokenizer and processor that is there already."""
    encoder: InputEncoder
    newest: Checkpoint | None
    """What the run goes on from."""


def _look(recipe: GRPORecipe, start: StartPolicy | None, resume: bool) -> _Looked:
    """Refuse what can be refused without a cluster and without reading the rows."""
    recipe = with_absolute_folders(recipe)
    newest = checkpoints_of(recipe).to_resume() if resume else None
    check_run_folder(recipe.run_folder)
    check_sources(recipe)
    folder = start.folder if start else Path(recipe.policy.path)
    there = start.untrained() if start and not folder.is_dir() else folder
    config = check_policy(recipe.policy.model_copy(update={"path": str(there)}))
    longest = recipe.prompt.max_tokens + recipe.rollout.max_new_tokens
    check_packing(config, longest, "prompt.max_tokens and rollout.max_new_tokens")
    check_sync(config)
    check_experts(there, config)
    if recipe.rollout.routing_replay:
        check_routing_replay(config)
    check_sequence_parallel(config, recipe.learner.sequence_parallel_size)
    check_features(recipe, config)
    encoder = InputEncoder(there, recipe.prompt, recipe.policy.trust_remote_code)
    check_export(there, encoder, recipe.policy.trust_remote_code)
    reward = reward_for_template(recipe.reward, encoder)
    recipe = recipe.model_copy(update={"reward": reward})
    check_resume(recipe, newest)
    return _Looked(recipe, folder, there, encoder, newest)


def _run(looked: _Looked, train: Train, start: StartPolicy | None) -> None:
    recipe, newest = looked.recipe, looked.newest
    plan = plan_run(recipe)
    aside = aside_of(recipe.run_folder)
    ready = _prepared(looked, aside)
    if newest is not None:
        sources = ", ".join(data.source for data in recipe.data.sources.values())
        check_same_rows(newest.folder, ready.problems.fingerprints, sources)
    take_run_folder(recipe.run_folder, aside, new=newest is None)
    if newest is None:
        save_recipe(recipe, recipe.run_folder)
    if start and not looked.folder.is_dir():
        start.make()
    saved = _Saved(checkpoints_of(recipe), newest)
    while True:
        try:
            with _started(recipe, looked.folder, plan) as actors:
                return _train(recipe, train, ready, actors, saved)
        except (LearnerDied, SyncOverdue) as error:
            saved = _start_again(saved, recipe.learner.restarts, error)


@dataclass(frozen=True, slots=True)
class _Saved:
    """What a run goes on from."""

    checkpoints: Checkpoints
    newest: Checkpoint | None
    """None: the start."""
    restarts: int = 0
    """Times that learner ranks died or hung, and all actors were started anew."""

    @property
    def begun(self) -> bool:
        """Whether the run's log may hold steps already."""
        return self.newest is not None or self.restarts > 0


def _start_again(saved: _Saved, allowed: int, error: Exception) -> _Saved:
    """Where the run goes on once all actors have been started anew.

    Raises:
        UserError: it has been started again as often as the recipe allows.
    """
    if saved.restarts == allowed:
        raise UserError(
            f"{error}\nThe run has been started again {allowed} times, and learner.restarts="
            f"{allowed}: mend what the lines above tell, then go on by --resume"
        ) from error
    newest = saved.checkpoints.newest()
    CONSOLE.print(
        f"{error}\nstarting all actors again, from {newest.folder if newest else 'the beginning'} "
        f"({saved.restarts + 1} of learner.restarts={allowed})"
    )
    return _Saved(saved.checkpoints, newest, saved.restarts + 1)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What a run needs besides its actors."""

    problems: TrainingProblems
    held_out: list[Problem] | None
    encoder: InputEncoder


def _prepared(looked: _Looked, aside: Path) -> _Prepared:
    """The rows, checked, and the rewards, tried on one of them."""
    recipe = looked.recipe
    measure = prompt_measure(recipe, looked.tokenizer, looked.encoder)
    problems, held_out = open_problems(recipe, measure, aside)
    for problem in problems.one_of_each():
        try_rewards(recipe.reward, problem)
    asked = held_out.first(recipe.evaluation.problems) if held_out else None
    return _Prepared(problems, asked, looked.encoder)


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
    saved: _Saved,
) -> None:
    checkpoints, newest = saved.checkpoints, saved.newest
    first = newest.step if newest else 0
    if newest:
        actors.learners.restore(newest.learner)
        save_recipe(recipe, recipe.run_folder)  # not before: what cannot go on leaves no trace
        CONSOLE.print(f"going on from step {first}, {newest.folder}")
    actors.weights.sync(first)
    gap = preflight(recipe, ready.problems, ready.encoder, actors)
    CONSOLE.print(f"engine and learner agree: prompts equal, logprobs {gap:.1e} nats apart")
    shown = graded_answer(recipe, ready.problems, actors)
    print_line(first, graded_answer_text(shown, recipe.reward.weights))

    progress = Progress.of(recipe, ready.problems, newest)
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
            progress.save(checkpoint.folder)
            save_recipe(recipe, checkpoint.folder)

        checkpoints.write(step, fill, best=best.best)

    resume = first if saved.begun else None
    gauge = Metrics(recipe.name).show_figure
    with RunLog(recipe.run_folder, recipe, gauge=gauge, resume=resume) as log:
        if evaluate and not newest:
            log.write_evaluation(0, evaluate())
        parts = GRPOParts(
            ready.problems.cursor,
            actors.rollouts,
            actors.learners,
            weights=actors.weights,
            evaluate=evaluate,
            log=log,
            save=save,
            best=best,
            token_texts=TokenTexts(ready.encoder.tokenizer),
            buffer=progress.buffer,
            span=span,
        )
        train(recipe, parts, first)
        summary = summarise(recipe.run_folder)
        summary |= {
            "syncs_verified": actors.weights.verified,
            "rollout_restarts": actors.pools.engines.restarts,
            "learner_restarts": saved.restarts,
            "rejected_rows": sum(ready.problems.rejected.values()),
        }
        if best.best:
            summary["best_step"] = best.best.step
        log.write_summary(summary)
    if summary["flat_steps"] == summary["steps"] and not recipe.loss.has_teacher:
        CONSOLE.print("no group's rewards differed in any step: the policy has learned nothing")
