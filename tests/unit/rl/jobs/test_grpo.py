"""How often a run starts its actors again, and where it goes on."""

from pathlib import Path

import pytest

from actors.training.learner_group import LearnerDied
from rl.console.errors import UserError
from rl.jobs.grpo import _Saved, _start_again
from rl.storage.checkpoints import Checkpoint, Checkpoints


def fill(checkpoint: Checkpoint) -> None:
    for part in (checkpoint.learner, checkpoint.policy):
        part.mkdir()
        (part / "file").touch()


def test_a_run_starts_again_from_the_newest_checkpoint_as_often_as_the_recipe_allows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = _Saved(Checkpoints(tmp_path, keep=2), None)
    assert not saved.begun
    died = LearnerDied("learner rank 1 died. Its log says why")
    saved = _start_again(saved, 2, died)
    assert saved.newest is None and saved.begun
    assert "starting all actors again, from the beginning (1 of learner.restarts=2)" in (
        capsys.readouterr().out
    )
    written = saved.checkpoints.write(4, fill)
    saved = _start_again(saved, 2, died)
    assert saved.newest == written
    assert f"from {written.folder} (2 of learner.restarts=2)" in capsys.readouterr().out
    with pytest.raises(
        UserError, match=r"^learner rank 1 died. Its log says why\n.*2 times.*--res"
    ):
        _start_again(saved, 2, died)
