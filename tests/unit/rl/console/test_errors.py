"""What cannot be done is told in words, before anything starts; faults of ours keep a traceback."""

import errno
import re
from pathlib import Path

import pytest

from configs.schema.policy import PolicyConfig
from models.policy.check import check_policy
from models.tiny.model import build_tiny_text
from rl.console.errors import UserError, as_user_error, exit_on_user_error


def test_a_refusal_ends_a_command_with_its_text_alone() -> None:
    with pytest.raises(SystemExit) as ended, exit_on_user_error():
        raise UserError("data.source 'x' does not exist")
    assert ended.value.code == "data.source 'x' does not exist"
    assert ended.value.__suppress_context__


def test_a_full_disk_ends_a_command_in_words_and_other_faults_of_files_do_not() -> None:
    with pytest.raises(SystemExit) as ended, exit_on_user_error():
        raise OSError(errno.ENOSPC, "No space left on device", "runs/x/metrics.jsonl")
    assert re.search(r"No space left.*metrics\.jsonl.*--resume", str(ended.value.code))
    with pytest.raises(PermissionError), exit_on_user_error():
        raise PermissionError(errno.EACCES, "Permission denied", "runs/x/metrics.jsonl")


def test_only_faults_of_what_the_user_gave_become_refusals() -> None:
    for error in (ValueError("no column 'a'"), FileNotFoundError("no file 'b'")):
        with pytest.raises(UserError, match=str(error)), as_user_error():
            raise error
    with pytest.raises(KeyError), exit_on_user_error(), as_user_error():
        raise KeyError("ours")
    with pytest.raises(ValueError, match="ours") as kept, exit_on_user_error():
        raise ValueError("ours")
    assert not isinstance(kept.value, UserError)


@pytest.mark.parametrize("path", ["./mistyped", "runs/digits/mistyped", "/no/where"])
def test_a_mistyped_folder_is_not_taken_for_a_hub_name(path: str) -> None:
    with pytest.raises(UserError, match=r"there is no folder /.*; correct the path"):
        check_policy(PolicyConfig(path=path))


def test_a_folder_without_a_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"policy\.path=.* cannot be read"):
        check_policy(PolicyConfig(path=str(tmp_path)))


def test_a_policy_without_the_part_that_shall_learn_is_refused(tmp_path: Path) -> None:
    build_tiny_text(tmp_path, seed=0)
    assert check_policy(PolicyConfig(path=str(tmp_path), train=("language",)))
    with pytest.raises(UserError, match=r"policy\.train=\['vision'\] leaves nothing to learn"):
        check_policy(PolicyConfig(path=str(tmp_path), train=("vision",)))


def test_attention_of_a_tower_that_is_not_there_is_refused(tmp_path: Path) -> None:
    build_tiny_text(tmp_path, seed=0)
    with pytest.raises(UserError, match=r"vision_attention=eager.*without a vision tower"):
        check_policy(
            PolicyConfig(path=str(tmp_path), train=("language",), vision_attention="eager")
        )
