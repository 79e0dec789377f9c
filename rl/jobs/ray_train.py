"""A worker function run as a Ray Train job, with its progress on the console."""

import os
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from actors.cluster.cpu_threads import cpu_thread_variables
from rl.algorithms.sft import SFTJob, finished
from rl.console.errors import UserError
from rl.console.progress import phase
from rl.run_log.console_lines import print_evaluation, print_step
from rl.run_log.views import SFT
from rl.storage.jsonl_tail import JsonlTail

_LOOK_EVERY_S = 0.2
_LINE_EVERY_S = 30.0
"""Where no bar can be shown; each step has a line of its own."""


class TrainingFailed(UserError):
    """The job ended before its time, for a reason that going on would meet again."""


def _work(jobs: Sequence[SFTJob]) -> str | None:
    """What each worker does. Only there is imported what it needs; the driver does without."""
    from actors.training.sft_worker import run_jobs

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
    variables = {} if gpu else cpu_thread_variables(learner.ranks, learner.cpu_threads)
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
    metrics = JsonlTail(run.run_folder / "metrics.jsonl")
    evaluations = JsonlTail(run.run_folder / "evaluations.jsonl")
    with phase(f"training {run.name}", job.steps, line_every_s=_LINE_EVERY_S) as work:
        over = False
        while not over:
            over = fitted.done() or finished(run)
            for line in metrics.new():
                print_step(line, job.steps, SFT)
                work.advance(line["step"] + 1 - work.done)
            for line in evaluations.new():
                print_evaluation(line, SFT)
            time.sleep(0 if over else _LOOK_EVERY_S)
