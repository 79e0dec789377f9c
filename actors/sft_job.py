"""Supervised runs as one Ray Train job: everything on the driver's side of it."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import ray

from actors.folders import check_outlives_job
from actors.session import ray_session, thread_variables
from configs.load import SAVED_AS, save_recipe
from configs.sft import AlignRecipe, ChatDataConfig, SFTLearnerConfig, SFTRecipe
from models.check import check_policy
from models.features import check_kind
from models.inputs import InputEncoder
from rl.cache import cache_folder
from rl.chats import ChatIndex, ChatSet
from rl.checkpoints import Checkpoints
from rl.console import CONSOLE, phase
from rl.follow import Follower
from rl.plan import Device, check_room, device_of, planned_ranks
from rl.refusal import Refusal, refusing
from rl.resume import check_same_problems
from rl.run_log import set_aside, tell_evaluation, tell_step
from rl.run_view import SFT
from rl.supervised import SFTJob, finished

_LOOK_EVERY_S = 0.2
_LINE_EVERY_S = 30.0
"""Where no bar can be shown; each step has a line of its own."""


class TrainingFailed(Refusal):
    """The job ended before its time, for a reason that going on would meet again."""


def sft_command(recipe: SFTRecipe | AlignRecipe, resume: bool = False) -> None:
    """Run what was asked for on a command line."""
    with ray_session():
        (folder,) = sft_runs([recipe], resume)
    CONSOLE.print(f"the policy lies in {folder}")


def sft_runs(
    recipes: Sequence[SFTRecipe | AlignRecipe],
    resume: bool = False,
    before: Mapping[str, Callable[[], object]] | None = None,
) -> list[Path]:
    """Train as each recipe says, by the same workers, in the Ray session that is open.

    Workers take half a minute to start on a laptop, so what asks for the same ones shares them; how
    often they are started again is the first recipe's to say. `resume` is for one recipe. `before`:
    by a recipe's name, what the first worker does before it begins, and again when workers are
    started again, such as writing the weights that it begins with; all else of its policy must lie
    there already.

    Returns:
        The final policies' folders.

    Raises:
        Refusal: the cluster, a policy, the data, a folder or the run to resume lack what a recipe
            asks for, or the recipes ask for different workers; TrainingFailed, a refusal too, where
            the job ended before its time.
    """
    workers = {(r.device, *_workers(r.learner)) for r in recipes}
    if len(workers) > 1:
        raise Refusal(f"recipes that share workers ask for different ones: {sorted(workers)}")
    placed = [_placed(recipe) for recipe in recipes]
    jobs = [_jobs(recipe, resume) for recipe in placed]
    first = {recipe.name: own for recipe, own in zip(placed, jobs, strict=True)}
    for name, work in (before or {}).items():
        first[name][0] = replace(first[name][0], before=work)
    fit([job for own in jobs for job in own], placed[0].run_folder)
    return [own[-1].recipe.policy_folder for own in jobs]


def _workers(learner: SFTLearnerConfig) -> tuple[int, float, int]:
    return learner.ranks, learner.cpus_per_rank, learner.cpu_threads or 0


def _jobs(recipe: SFTRecipe | AlignRecipe, resume: bool) -> list[SFTJob]:
    """The recipe's runs, once all that it names has been looked at."""
    resources = ray.cluster_resources()
    device = device_of(recipe, resources)
    check_room(planned_ranks(recipe, device), resources, "learner.ranks or learner.cpus_per_rank")
    config = check_policy(recipe.policy)
    if recipe.features.keep != "off":
        with refusing():
            check_kind(config.model_type)
    runs = recipe.runs if isinstance(recipe, AlignRecipe) else (recipe,)
    check_outlives_job(recipe.run_folder)
    if resume:
        _check_resume(runs)
    else:
        set_aside(recipe.run_folder)
    save_recipe(recipe, recipe.run_folder)
    # Passes change the projector, and never the processor.
    policy = recipe.policy
    encoder = InputEncoder(policy.path, recipe.encoding, policy.trust_remote_code)
    return [prepared(run, encoder, device) for run in runs]


def _placed(recipe: SFTRecipe | AlignRecipe) -> SFTRecipe | AlignRecipe:
    """The recipe with its folders absolute: workers may stand elsewhere."""
    path = Path(recipe.policy.path)
    features = recipe.features.folder or cache_folder() / "features"
    update = {
        "log": recipe.log.model_copy(update={"folder": recipe.log.folder.resolve()}),
        "policy": recipe.policy.model_copy(
            update={"path": str(path.resolve())} if path.is_dir() else {}
        ),
        "features": recipe.features.model_copy(update={"folder": features.resolve()}),
    }
    return recipe.model_copy(update=update)


def _check_resume(runs: Sequence[SFTRecipe]) -> None:
    """Refuses to go on with nothing, or with a run that has seen other chats so far."""
    for number, run in enumerate(runs):
        if finished(run):
            continue
        checkpoints = Checkpoints(run.run_folder / "checkpoints", run.checkpoint.keep)
        newest = checkpoints.newest() if number else checkpoints.to_resume()
        if newest is not None:
            check_same_problems(newest.folder / SAVED_AS, run)


def prepared(run: SFTRecipe, encoder: InputEncoder, device: Device) -> SFTJob:
    """The run with its rows checked, which happens once and here."""
    save_recipe(run, run.run_folder)

    def index(data: ChatDataConfig, rejected: str) -> ChatIndex:
        with refusing():  # where there is no such source or column, or no format that is known
            found = ChatSet.open(
                data,
                measure=encoder.measure_chat,
                max_tokens=run.prompt.max_tokens,
                rejected=run.run_folder / rejected,
                seed=run.seed,
            )
        return found.index

    held_out: ChatIndex | None = None  # few, so what is wrong with them is told first
    if run.evaluation.data is not None:
        held_out = index(run.evaluation.data, "rejected_held_out.jsonl")
    return SFTJob(run, index(run.data, "rejected.jsonl"), held_out, device)


def _work(jobs: Sequence[SFTJob]) -> str | None:
    """What each worker does. Only there is imported what it needs; the driver does without."""
    from actors.sft_worker import run_jobs

    return run_jobs(jobs)


def fit(jobs: Sequence[SFTJob], folder: Path) -> None:
    """All runs as one Ray Train job, shown as they go.

    Checkpoints are the runs' own, written by all ranks to one folder and renamed when whole: Ray
    Train's would be copies of them, registered seconds later. Ray Train watches the workers and
    starts them again.
    """
    # The driver reads these; the first keeps relative paths what they are on the driver.
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    if "RAY_ADDRESS" not in os.environ:  # nobody takes this machine away: one process less
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    first = jobs[0]
    learner, gpu = first.recipe.learner, first.device == "cuda"
    resources = {"CPU": learner.cpus_per_rank} | ({"GPU": 1.0} if gpu else {})
    variables = {} if gpu else thread_variables(learner.ranks, learner.cpu_threads)
    trainer = TorchTrainer(
        # As part of the function: Ray Train's controller would import all that its config names.
        partial(_work, list(jobs)),
        scaling_config=ScalingConfig(
            num_workers=learner.ranks, use_gpu=gpu, resources_per_worker=resources
        ),
        run_config=RunConfig(
            name="ray_train",
            storage_path=str(folder),
            failure_config=FailureConfig(max_failures=learner.restarts),
            worker_runtime_env={"env_vars": variables},
        ),
    )
    pool = ThreadPoolExecutor(1, thread_name_prefix="fit")
    try:
        fitted = pool.submit(trainer.fit)
        for job in jobs:
            if not (fitted.done() and fitted.exception()):
                _show(job, fitted)
        why = fitted.result().return_value
    finally:
        pool.shutdown(wait=False)  # where this is interrupted, the session's end is its end
    if why is not None:
        raise TrainingFailed(why)


def _show(job: SFTJob, fitted: "Future[Any]") -> None:
    """Tell on the console what the job's log tells, until the job or the whole fit is over."""
    run = job.recipe
    if finished(run):
        return
    metrics = Follower(run.run_folder / "metrics.jsonl")
    evaluations = Follower(run.run_folder / "evaluations.jsonl")
    with phase(f"training {run.name}", job.steps, line_every_s=_LINE_EVERY_S) as work:
        over = False
        while not over:
            over = fitted.done() or finished(run)
            for line in metrics.new():
                tell_step(line, job.steps, SFT)
                work.advance(line["step"] + 1 - work.done)
            for line in evaluations.new():
                tell_evaluation(line, SFT)
            time.sleep(0 if over else _LOOK_EVERY_S)
