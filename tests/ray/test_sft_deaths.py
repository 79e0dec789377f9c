"""A worker that dies in mid-epoch costs no row and repeats none; one that diverges ends the run."""

import threading
import time
from pathlib import Path

import psutil
import pytest

from actors.sft_job import TrainingFailed, sft_run
from rl.jsonl import read_lines
from tests.ray.chats import chat_file, figures, seen, sft_recipe

pytestmark = [pytest.mark.ray, pytest.mark.slow]

CHATS = 60


def workers() -> list[psutil.Process]:
    """Ray Train's workers below this process."""
    below = psutil.Process().children(recursive=True)
    return [process for process in below if "RayTrainWorker" in _title(process)]


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def kill_behind(metrics: Path, steps: int, killed: list[int]) -> None:
    """End one worker with kill -9 as soon as so many steps are told."""
    until = time.monotonic() + 300
    while time.monotonic() < until and not killed:
        if len(list(read_lines(metrics))) >= steps:
            victim = workers()[-1]
            victim.kill()
            killed.append(victim.pid)
        time.sleep(0.01)


def test_a_worker_killed_in_mid_epoch_leaves_each_row_seen_once(
    cluster: None, vlm_folder: Path, tmp_path: Path
) -> None:
    data = {"source": str(chat_file(tmp_path, CHATS))}
    learner = {"ranks": 2, "zero_stage": 2, "restarts": 1}
    checkpoint = {"every": 4, "keep": 2}
    recipe = sft_recipe(
        vlm_folder, tmp_path, batch=4, data=data, learner=learner, checkpoint=checkpoint
    )
    killed: list[int] = []
    metrics = recipe.run_folder / "metrics.jsonl"
    killer = threading.Thread(target=kill_behind, args=(metrics, 6, killed))
    killer.start()
    sft_run(recipe)
    killer.join()
    assert killed, "the run was over before its worker could be killed"
    rows = seen(recipe.run_folder)
    assert sorted(row for step in rows for row in step) == list(range(CHATS))
    lines = list(read_lines(metrics))
    assert [line["step"] for line in lines] == list(range(15))

    undisturbed = recipe.model_copy(update={"name": "undisturbed"})
    sft_run(undisturbed)
    assert seen(undisturbed.run_folder) == rows
    assert figures(undisturbed, "loss") == pytest.approx(figures(recipe, "loss"), abs=1e-5)


def test_updates_that_are_refused_end_the_run_at_once_and_say_why(
    cluster: None, vlm_folder: Path, tmp_path: Path
) -> None:
    learner = {"optimizer": {"lr": 1e30, "schedule": "constant", "warmup_share": 0.0}}
    recipe = sft_recipe(vlm_folder, tmp_path, batch=2, learner=learner)
    with pytest.raises(TrainingFailed, match=r"not finite in 3 updates in a row"):
        sft_run(recipe)
    skipped = figures(recipe, "skipped")
    assert skipped[-2:] == [1.0, 1.0] and skipped[0] == 0.0
