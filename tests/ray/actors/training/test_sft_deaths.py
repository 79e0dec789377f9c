"""A worker that dies in mid-epoch costs no row and repeats none; divergence and a full disk end the
job."""

import shutil
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
import pytest

from configs.jobs.sft import SFTRecipe
from rl.jobs.ray_train import TrainingFailed
from rl.jobs.sft import sft_runs
from rl.storage.disk import DiskFull
from rl.storage.jsonl import read_lines
from tests.full_disk import allow_files_of
from tests.ray.chats import figures, seen, sft_recipe
from tests.ray.lessons import DISTURBED_CHATS, Lessons, disturbed, diverging

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def workers() -> list[psutil.Process]:
    """Ray Train's workers below this process."""
    below = psutil.Process().children(recursive=True)
    return [process for process in below if "RayTrainWorker" in _title(process)]


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def kill_behind(metrics: Path, steps: int, killed: list[int], over: threading.Event) -> None:
    """End one worker with kill -9 as soon as so many steps are told, unless all is over before."""
    while not killed and not over.wait(0.01):
        if len(list(read_lines(metrics))) >= steps:
            victim = workers()[-1]
            victim.kill()
            killed.append(victim.pid)


@dataclass(frozen=True)
class Ended:
    """A job that brings its first run's weights, loses a worker in that run, and diverges in the
    second."""

    disturbed: SFTRecipe
    killed: list[int]
    """Process ids."""
    diverged: SFTRecipe
    why: str
    """What the job ended with."""


@pytest.fixture(scope="module")
def ended(cluster: None, vlm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    folder = tmp_path_factory.mktemp("ended")
    late, weights = folder / "late", "model.safetensors"
    shutil.copytree(vlm_folder, late, ignore=shutil.ignore_patterns(weights))
    first, second = disturbed(late, folder, "disturbed"), diverging(vlm_folder, folder)
    bring = partial(shutil.copy, vlm_folder / weights, late)
    killed: list[int] = []
    metrics = first.run_folder / "metrics.jsonl"
    over = threading.Event()
    killer = threading.Thread(target=kill_behind, args=(metrics, 6, killed, over))
    killer.start()
    try:
        with pytest.raises(TrainingFailed) as refused:
            sft_runs([first, second], before={"disturbed": bring})
    finally:
        over.set()
        killer.join()
    return Ended(first, killed, second, str(refused.value))


def test_a_worker_killed_in_mid_epoch_leaves_each_row_seen_once(
    ended: Ended, lessons: Lessons
) -> None:
    assert ended.killed, "the run was over before its worker could be killed"
    rows = seen(ended.disturbed.run_folder)
    assert sorted(row for step in rows for row in step) == list(range(DISTURBED_CHATS))
    assert figures(ended.disturbed, "step") == list(range(15))

    undisturbed = lessons.recipes["undisturbed"]
    assert seen(undisturbed.run_folder) == rows
    losses = figures(ended.disturbed, "loss")
    assert figures(undisturbed, "loss") == pytest.approx(losses, abs=1e-5)


def test_updates_that_are_refused_end_the_run_at_once_and_say_why(ended: Ended) -> None:
    assert "diverged: " in ended.why and "not finite in 3 updates in a row" in ended.why
    skipped = figures(ended.diverged, "skipped")
    assert skipped[-2:] == [1.0, 1.0] and skipped[0] == 0.0


def _fill_the_disk(begun: Path) -> None:
    """From now on without room for a checkpoint; tells in `begun` that a worker was here."""
    with begun.open("a") as told:
        told.write("begun\n")
    allow_files_of(2**19)


def test_a_checkpoint_without_room_ends_the_run_at_once_and_no_worker_is_started_again(
    cluster: None, vlm_folder: Path, tmp_path: Path
) -> None:
    recipe = sft_recipe(
        vlm_folder, tmp_path, name="full", learner={"restarts": 1}, checkpoint={"every": 1}
    )
    begun = tmp_path / "begun"
    with pytest.raises(DiskFull) as told:
        sft_runs([recipe], before={"full": partial(_fill_the_disk, begun)})
    said = str(told.value)
    assert said.startswith("the checkpoint of step 1 could not be written to ")
    assert said.endswith(" free); make room, then go on by --resume")
    assert begun.read_text() == "begun\n"
    assert len(figures(recipe, "loss")) == 1
