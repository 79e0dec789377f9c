"""A worker that dies in mid-epoch costs no row and repeats none."""

import threading
import time
from pathlib import Path

import psutil
import pytest

from actors.sft_job import sft_runs
from rl.jsonl import read_lines
from tests.ray.chats import figures, seen
from tests.ray.lessons import DISTURBED_CHATS, Lessons, disturbed

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
    lessons: Lessons, vlm_folder: Path, tmp_path: Path
) -> None:
    recipe = disturbed(vlm_folder, tmp_path, "disturbed")
    killed: list[int] = []
    metrics = recipe.run_folder / "metrics.jsonl"
    killer = threading.Thread(target=kill_behind, args=(metrics, 6, killed))
    killer.start()
    sft_runs([recipe])
    killer.join()
    assert killed, "the run was over before its worker could be killed"
    rows = seen(recipe.run_folder)
    assert sorted(row for step in rows for row in step) == list(range(DISTURBED_CHATS))
    lines = list(read_lines(metrics))
    assert [line["step"] for line in lines] == list(range(15))

    undisturbed = lessons.recipes["undisturbed"]
    assert seen(undisturbed.run_folder) == rows
    assert figures(undisturbed, "loss") == pytest.approx(figures(recipe, "loss"), abs=1e-5)
