"""Supervised runs as one Ray Train job, with their progress on the console."""

import math
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from actors.cluster.cpu_threads import cpu_thread_variables
from configs.jobs.sft import SupervisedRecipe
from rl.algorithms.sft import SFTJob, finished
from rl.console.errors import UserError
from rl.console.progress import phase
from rl.run_log.console_lines import print_line

_LINE_EVERY_S = 30.0
"""Where no bar can be shown; each step has a line of its own."""


_TRIAL = "ray_train"
"""Ray Train's own folder in the first run's."""


class TrainingFailed(UserError):
    """The job ended before its time, for a reason that going on would meet again."""


def _work(jobs: Sequence[SFTJob], reports: Any) -> str | None:
    """What each worker does; it imports torch and DeepSpeed, which the driver does without."""
    from actors.training.sft_worker import run_jobs

    return run_jobs(jobs, reports)


def rank_resources(recipe: SupervisedRecipe, gpu: bool) -> dict[str, float]:
    """What each rank takes on its node, by Ray's names."""
    own = recipe.cluster.resources.get("learner", {})
    return {"CPU": recipe.learner.cpus_per_rank, **({"GPU": 1.0} if gpu else {}), **own}


def fit(jobs: Sequence[SFTJob], folder: Path) -> None:
    """Run `jobs` one after another in one Ray Train job, whose own files lie in `folder`.

    Checkpoints are the runs' own, written by all ranks to one folder and renamed when whole: Ray
    Train's would be copies of them, registered seconds later. Ray Train watches the workers and
    starts them again. The first rank reports its lines through a queue beside the driver.

    Raises:
        TrainingFailed: a run diverged, or the ranks do not share a folder.
        DiskFull: there was no room for a checkpoint, or else of what a run leaves.
    """
    # The driver reads these; the first keeps relative paths what they are on the driver.
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    if "RAY_ADDRESS" not in os.environ:  # nobody takes this machine away: one process less
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    from ray import get_runtime_context
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.util.queue import Queue
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(get_runtime_context().get_node_id(), soft=False)
    reports = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
    first = jobs[0]
    learner, gpu = first.recipe.learner, first.device == "cuda"
    variables = {} if gpu else cpu_thread_variables(learner.ranks, learner.cpu_threads)
    trainer = TorchTrainer(
        # As part of the function: Ray Train's controller would import all that its config names.
        partial(_work, list(jobs), reports),
        torch_config=TorchConfig(timeout_s=math.ceil(learner.timeout_s)),
        scaling_config=ScalingConfig(
            num_workers=learner.ranks,
            use_gpu=gpu,
            resources_per_worker=rank_resources(first.recipe, gpu),
        ),
        run_config=RunConfig(
            name=_TRIAL,
            storage_path=str(folder),
            failure_config=FailureConfig(max_failures=learner.restarts),
            worker_runtime_env={"env_vars": variables},
        ),
    )

    def fitted() -> Any:
        try:
            return trainer.fit().return_value
        finally:
            reports.put(None)
            drop_unused(folder / _TRIAL)

    pool = ThreadPoolExecutor(1, thread_name_prefix="fit")
    try:
        result = pool.submit(fitted)
        show(jobs, iter(reports.get, None))
        why = result.result()
    finally:
        pool.shutdown(wait=False)  # where this is interrupted, the session's end is its end
    if why is not None:
        raise TrainingFailed(why)


def drop_unused(folder: Path) -> None:
    """Remove the folder that Ray Train makes for checkpoints and results, of which it gets none."""
    if folder.is_dir() and all(path.name.startswith(".") for path in folder.iterdir()):
        shutil.rmtree(folder)


def show(
    jobs: Sequence[SFTJob], reports: Iterator[tuple[str, int, str | None] | UserError]
) -> None:
    """Print the reports of the runs that are not finished, each run under a bar of its own.

    Args:
        reports: (name of the run, updates done, line to print); None for a line: the run is over.
            Workers that are started again may say so twice.

    Raises:
        UserError: the one among the reports; no new start of the workers would mend it.
    """
    for job in [job for job in jobs if not finished(job.recipe)]:
        name = job.recipe.name
        with phase(f"training {name}", job.steps, line_every_s=_LINE_EVERY_S) as work:
            for report in reports:
                if isinstance(report, UserError):
                    raise report
                of, done, text = report
                if text is not None:
                    print_line(done, text)
                    work.advance(done - work.done)
                elif of == name:
                    break
            else:
                return
