"""What the first rank reports of its runs is printed, each run's under its own bar."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from configs.jobs.sft import SFTRecipe
from rl.algorithms.sft import SFTJob
from rl.console.progress import CONSOLE
from rl.data.chats import ChatIndex
from rl.jobs.ray_train import drop_unused, rank_resources, show


def job(name: str, folder: Path, **sections: Any) -> SFTJob:
    recipe = SFTRecipe.model_validate(
        {
            "name": name,
            "steps": 2,
            "policy": {"path": "some/model"},
            "data": {"source": "rows.parquet"},
            "log": {"folder": str(folder), "wandb": False},
            **sections,
        }
    )
    nothing = ChatIndex(
        rows=0,
        numbers=np.zeros(0, np.int64),
        lengths=np.zeros(0, np.int32),
        has_image=np.zeros(0, np.bool_),
        rejected=Counter(),
        fingerprints=np.zeros(0, np.uint64),
    )
    return SFTJob(recipe, nothing, None, "cpu")


def shown(jobs: list[SFTJob], *reports: tuple[str, int, str | None]) -> list[str]:
    with CONSOLE.capture() as said:
        show(jobs, iter(reports))
    return [line.split(",")[0] for line in said.get().splitlines()]


def test_each_run_s_lines_come_before_its_end_and_the_next_run(tmp_path: Path) -> None:
    jobs = [job("one", tmp_path), job("two", tmp_path)]
    lines = shown(
        jobs,
        ("one", 1, "a"),
        ("one", 2, "b"),
        ("one", 2, None),
        ("two", 1, "c"),
        ("two", 2, None),
    )
    assert lines == ["a", "b", "training one: 2 of 2", "c", "training two: 1 of 2"]


def test_workers_that_are_started_again_may_say_twice_that_a_run_is_over(tmp_path: Path) -> None:
    jobs = [job("one", tmp_path), job("two", tmp_path)]
    lines = shown(
        jobs, ("one", 2, None), ("one", 2, None), ("two", 2, "a"), ("two", 1, "b"), ("two", 2, None)
    )
    assert lines == ["training one: 0 of 2", "a", "b", "training two: 1 of 2"]


def test_runs_that_are_finished_or_never_begun_are_not_shown(tmp_path: Path) -> None:
    jobs = [job(name, tmp_path) for name in ("one", "two", "three")]
    jobs[0].recipe.run_folder.mkdir()
    (jobs[0].recipe.run_folder / "summary.json").touch()
    lines = shown(jobs, ("one", 2, None), ("two", 1, "a"))  # the job ends here
    assert lines == ["a", "training two: 1 of 2"]


def test_ray_trains_folder_goes_where_nothing_is_in_it(tmp_path: Path) -> None:
    trial = tmp_path / "ray_train"
    drop_unused(trial)
    trial.mkdir()
    (trial / ".validate_storage_marker").touch()
    drop_unused(trial)
    assert not trial.exists()
    trial.mkdir()
    (trial / "checkpoint_000000").mkdir()
    drop_unused(trial)
    assert trial.exists()


def test_each_rank_takes_what_the_recipe_says_beside_its_gpu_and_cores(tmp_path: Path) -> None:
    cluster = {"resources": {"learner": {"on_demand": 2}}}
    recipe = job("one", tmp_path, cluster=cluster, learner={"cpus_per_rank": 3}).recipe
    assert rank_resources(recipe, gpu=True) == {"CPU": 3, "GPU": 1, "on_demand": 2}
    assert rank_resources(job("two", tmp_path).recipe, gpu=False) == {"CPU": 1}
