"""The function of each Ray Train worker: runs one after another, logged by the first rank."""

import gc
import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import torch
import torch.distributed as dist
from ray.train.torch import get_device
from ray.util.queue import Queue

from actors.cluster.metrics import Metrics
from actors.cluster.shared_folder import UnusableFolder, check_reached, file_visible
from actors.training.collectives import broadcast_from_rank0
from actors.training.sft_rank import SFTRank
from configs.jobs.mpo import MPORecipe
from configs.schema.features import FeaturesConfig
from configs.schema.run import Device
from models.policy.features import FeatureStore, feature_store
from rl.algorithms.guards import DivergedError
from rl.algorithms.sft import SFTJob, SFTParts, StepResult, finished, train
from rl.run_log.summary import summarise_sft
from rl.run_log.trained_rows import TrainedRowsLog
from rl.run_log.writer import RunLog
from rl.run_page.views import MPO, SFT
from rl.storage.checkpoints import Checkpoint, Checkpoints
from rl.storage.disk import DiskFull, tell_full_disk
from rl.storage.jsonl import read_lines
from rl.storage.run_folder import save_recipe


def run_jobs(jobs: Sequence[SFTJob], reports: Queue) -> str | None:
    """Run the jobs one after another, those that are finished left out.

    Args:
        reports: where the first rank puts (run's name, updates done, line to print) of each step
            and evaluation, and (run's name, updates, None) after each run; and any rank what no
            new start would mend, while the others may wait for it.

    Returns:
        Why a run has failed for good; None: all are done. An exception instead makes Ray Train
        start all workers again, and they go on from the newest checkpoint.
    """
    try:
        check_reached(jobs[0].recipe.run_folder, _seen_by_all)
    except UnusableFolder as error:
        return str(error)
    stores: dict[FeaturesConfig, FeatureStore | None] = {}
    for job in jobs:
        recipe = job.recipe
        if not broadcast_from_rank0(finished(recipe)):
            if recipe.features not in stores:
                stores[recipe.features] = feature_store(recipe.features, dist.get_world_size())
            if job.before is not None:
                if dist.get_rank() == 0:
                    job.before()
                dist.barrier()
            try:
                with tell_full_disk(recipe.run_folder, f"what {recipe.name} leaves"):
                    run_job(job, stores[recipe.features], reports)
            except DivergedError as error:  # every rank meets it at the same step
                return f"{recipe.name}: {error}"
            except DiskFull as error:
                reports.put(error)
                raise
            gc.collect()  # sharded weights lie in cycles; the next run wants their memory
        if dist.get_rank() == 0:
            reports.put((recipe.name, job.steps, None))
    return None


def run_job(job: SFTJob, store: FeatureStore | None, reports: Queue) -> None:
    """Train from the newest checkpoint, or the beginning, to the summary."""
    recipe = job.recipe
    checkpoints = Checkpoints(recipe.run_folder / "checkpoints", recipe.checkpoint.keep)
    newest: Checkpoint | None = broadcast_from_rank0(
        checkpoints.newest() if dist.get_rank() == 0 else None
    )
    first = newest.step if newest else 0
    rank = SFTRank(job, checkpoints, first, store, _own_device(job.device))
    try:
        if newest:
            rank.restore(newest)
        _save_recipes(job)
        with closing(_Log(job, first, reports)) as log:
            losses = broadcast_from_rank0(_losses(recipe.run_folder, first))
            train(recipe, SFTParts(rank, log, losses), first, job.steps)
            rank.publish_final_policy()
            log.write_summary()
    finally:
        rank.close()


def _save_recipes(job: SFTJob) -> None:
    """Leave in the run's folder what it goes by from now on."""
    dist.barrier()  # not before every rank could go on: what cannot leaves no trace
    if dist.get_rank() == 0:
        for recipe in filter(None, (job.recipe, job.part_of)):
            save_recipe(recipe, recipe.run_folder)


def _own_device(kind: Device) -> torch.device:
    """This worker's device, which all that names none means from now on."""
    if kind == "cpu":
        return torch.device("cpu")
    device = get_device()
    torch.cuda.set_device(device)
    return device


def _seen_by_all(marker: Path) -> list[str | None]:
    """What `file_visible` says on each rank of rank 0's marker."""
    found: list[str | None] = [None] * dist.get_world_size()
    dist.all_gather_object(found, file_visible(None, broadcast_from_rank0(marker)))
    return found


def _losses(folder: Path, first: int) -> list[tuple[int, float]]:
    """Held-out losses from before a start at step `first`; NaN where one was not finite."""
    lines = read_lines(folder / "evaluations.jsonl") if first else ()
    losses = [(line["step"], line["loss"]) for line in lines]
    return [(step, math.nan if loss is None else loss) for step, loss in losses]


class _Log:
    """The run's log, which the first rank writes; on the others all methods do nothing."""

    def __init__(self, job: SFTJob, first: int, reports: Queue) -> None:
        """`first`: the step that comes first."""
        self._job = job
        self._run: RunLog | None = None
        if dist.get_rank() != 0:
            return
        recipe = job.recipe.model_copy(update={"steps": job.steps})
        self._run = RunLog(
            recipe.run_folder,
            recipe,
            gauge=Metrics(recipe.name).show_figure,
            resume=first,
            view=MPO if isinstance(job.recipe, MPORecipe) else SFT,
            show=lambda done, text: reports.put((recipe.name, done, text)),
        )
        self._trained = TrainedRowsLog(recipe.run_folder, first)

    def write_step(self, step: int, learned: StepResult) -> None:
        if self._run:
            self._trained.write(step, learned.rows)
            self._run.write_step(step, learned.report.metrics, learned.samples)

    def write_evaluation(self, step: int, figures: Mapping[str, float]) -> None:
        if self._run:
            self._run.write_evaluation(step, figures)

    def write_summary(self) -> None:
        if self._run:
            rejected = sum(self._job.chats.rejected.values())
            figures = summarise_sft(self._job.recipe.run_folder)
            self._run.write_summary(figures | {"rejected_rows": rejected})

    def close(self) -> None:
        if self._run:
            self._trained.close()
            self._run.close()
