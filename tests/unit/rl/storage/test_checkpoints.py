"""Checkpoints are whole or not there, and the newest few stay."""

import json
import logging
import os
import shutil
from pathlib import Path

import pytest
import torch

from rl.storage.checkpoints import STATE, Best, Checkpoint, Checkpoints, IncompleteCheckpoint
from rl.storage.disk import DiskFull
from tests.full_disk import files_of_at_most


def fill(checkpoint: Checkpoint) -> None:
    checkpoint.learner.mkdir()
    (checkpoint.learner / "shard").write_text(f"weights of {checkpoint.step}")
    checkpoint.policy.mkdir()
    (checkpoint.policy / "config.json").write_text("{}")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_checkpoint_gets_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    seen: list[str] = []

    def look(checkpoint: Checkpoint) -> None:
        fill(checkpoint)
        seen.extend(names(tmp_path))

    made = Checkpoints(tmp_path, keep=2).write(20, look)
    assert seen == [".writing_step_000020"]
    assert names(tmp_path) == ["step_000020"]
    assert made == Checkpoint(20, tmp_path / "step_000020")
    assert (made.learner / "shard").read_text() == "weights of 20"
    assert made.policy == tmp_path / "step_000020" / "policy"
    state = json.loads((made.folder / STATE).read_text())
    assert state == {"step": 20, "files": {"learner/shard": 13, "policy/config.json": 2}}


def test_the_newest_few_are_kept_in_the_order_of_numbers(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (5, 10, 999_999, 1_000_000):
        checkpoints.write(step, fill)
    assert names(tmp_path) == ["step_1000000", "step_999999"]
    newest = checkpoints.newest()
    assert newest is not None and newest.step == 1_000_000


def test_there_is_no_newest_before_the_first(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "none", keep=1).newest() is None


def test_one_that_was_cut_off_is_passed_over_with_a_warning_and_written_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.write(10, fill)

    def die(checkpoint: Checkpoint) -> None:
        fill(checkpoint)
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        checkpoints.write(20, die)
    with caplog.at_level(logging.WARNING):
        newest = checkpoints.newest()
    assert newest is not None and newest.step == 10
    assert ".writing_step_000020: it was not written to its end" in caplog.text
    (tmp_path / ".writing_step_000020" / "leftover").write_text("of the first try")

    again = checkpoints.write(20, fill)
    assert names(again.folder) == ["learner", "policy", STATE]
    assert names(tmp_path) == ["step_000010", "step_000020"]


@pytest.mark.parametrize("state", [None, '{"step"', '{"step": 10}', "{}"])
def test_one_whose_state_is_damaged_is_passed_over_with_a_warning(
    tmp_path: Path, state: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = Checkpoints(tmp_path, keep=3)
    checkpoints.write(10, fill)
    damaged = checkpoints.write(20, fill).folder / STATE
    damaged.unlink()
    if state is not None:
        damaged.write_text(state)
    with caplog.at_level(logging.WARNING):
        newest = checkpoints.newest()
    assert newest is not None and newest.step == 10
    assert "passing over" in caplog.text and "step_000020" in caplog.text


@pytest.mark.parametrize(
    ("name", "told"),
    [("learner/shard", "learner/shard has 5 of its 13 bytes"), ("policy/config.json", "no policy")],
)
def test_one_whose_files_are_cut_or_gone_is_passed_over_with_a_warning(
    tmp_path: Path, name: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = Checkpoints(tmp_path, keep=3)
    checkpoints.write(10, fill)
    file = checkpoints.write(20, fill).folder / name
    if name.startswith("learner"):
        os.truncate(file, 5)
    else:
        file.unlink()
    with caplog.at_level(logging.WARNING):
        newest = checkpoints.newest()
    assert newest is not None and newest.step == 10
    assert "step_000020" in caplog.text and told in caplog.text


def test_one_of_a_time_that_noted_no_sizes_and_one_that_grew_are_gone_on_from(
    tmp_path: Path,
) -> None:
    checkpoints = Checkpoints(tmp_path, keep=3)
    made = checkpoints.write(10, fill)
    (made.policy / "config.json").write_text('{"by": "hand"}')
    assert checkpoints.newest() == made
    (made.folder / STATE).write_text('{"step": 10}')
    assert checkpoints.newest() == made


def save_tensors(checkpoint: Checkpoint) -> None:
    checkpoint.learner.mkdir()
    torch.save(torch.zeros(2**20), checkpoint.learner / "shard.pt")
    checkpoint.policy.mkdir()
    (checkpoint.policy / "config.json").write_text("{}")


def test_without_room_for_one_the_run_is_told_and_those_before_stay(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.write(10, save_tensors)
    with files_of_at_most(2**19), pytest.raises(DiskFull) as told:
        checkpoints.write(20, save_tensors)
    words = str(told.value)
    assert f"the checkpoint of step 20 could not be written to {tmp_path}: File too large" in words
    assert "GB are free); make room, then go on by --resume" in words
    newest = checkpoints.newest()
    assert newest is not None and newest.step == 10
    assert checkpoints.write(20, save_tensors).step == 20


def test_what_fails_for_another_reason_says_its_own(tmp_path: Path) -> None:
    def fail(checkpoint: Checkpoint) -> None:
        raise RuntimeError("a rank died")

    with pytest.raises(RuntimeError, match="a rank died"):
        Checkpoints(tmp_path, keep=2).write(10, fail)


def test_damaged_ones_never_push_out_the_one_just_written(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1)
    (checkpoints.write(30, fill).folder / STATE).unlink()
    checkpoints.write(20, fill)
    checkpoints.write(25, fill)
    newest = checkpoints.newest()
    assert newest is not None and newest.step == 25
    assert "step_000020" not in names(tmp_path)


def test_writing_a_step_again_replaces_it(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    (checkpoints.write(10, fill).folder / "old").write_text("of the first time")
    assert names(checkpoints.write(10, fill).folder) == ["learner", "policy", STATE]


@pytest.mark.parametrize("part", ["learner", "policy"])
def test_one_without_learner_state_or_policy_is_refused_and_never_resumed(
    tmp_path: Path, part: str, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.write(10, fill)

    def elsewhere(checkpoint: Checkpoint) -> None:
        fill(checkpoint)
        shutil.rmtree(checkpoint.folder / part)

    with pytest.raises(IncompleteCheckpoint, match=f"step 20 in {tmp_path} has no {part}: .*share"):
        checkpoints.write(20, elsewhere)
    assert "step_000020" not in names(tmp_path)
    shutil.rmtree(checkpoints.write(30, fill).folder / part)
    with caplog.at_level(logging.WARNING):
        newest = checkpoints.newest()
    assert newest is not None and newest.step == 10
    assert f"has no {part}" in caplog.text


def test_other_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "step_by_hand").mkdir()
    (tmp_path / "step_000001_copy").mkdir()
    checkpoints = Checkpoints(tmp_path, keep=1)
    for step in (1, 2):
        checkpoints.write(step, fill)
    assert names(tmp_path) == ["step_000001_copy", "step_000002", "step_by_hand"]


def test_the_best_stays_beside_the_newest_until_there_is_a_better_one(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.write(1, fill, best=Best(1, "accuracy", 0.5))
    checkpoints.write(2, fill)
    checkpoints.write(3, fill)
    assert sorted(path.name for path in tmp_path.glob("step_*")) == ["step_000001", "step_000003"]
    assert Checkpoints(tmp_path, keep=1).best() == Best(1, "accuracy", 0.5)
    checkpoints.write(4, fill, best=Best(4, "accuracy", 0.6))
    assert [path.name for path in tmp_path.glob("step_*")] == ["step_000004"]
