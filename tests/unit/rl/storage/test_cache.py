"""Folders that are made once are never half made, and are named by what decides them."""

from pathlib import Path

import pytest

from rl.storage.cache import code_digest, get_or_build


def test_what_is_made_once_is_never_half_made(tmp_path: Path) -> None:
    def fail(aside: Path) -> None:
        (aside / "half").touch()
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        get_or_build(tmp_path / "things" / "one", fail)
    assert not list((tmp_path / "things").iterdir())

    get_or_build(tmp_path / "things" / "one", lambda aside: (aside / "whole").touch())
    get_or_build(tmp_path / "things" / "one", fail)
    assert [path.name for path in (tmp_path / "things" / "one").iterdir()] == ["whole"]


def test_of_two_makers_the_slower_one_s_work_is_dropped(tmp_path: Path) -> None:
    folder = tmp_path / "one"

    def overtaken(aside: Path) -> None:
        get_or_build(folder, lambda other: (other / "first").touch())
        (aside / "second").touch()

    get_or_build(folder, overtaken)
    assert [path.name for path in folder.iterdir()] == ["first"]
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_a_name_changes_with_the_code_and_with_the_settings(tmp_path: Path) -> None:
    code = tmp_path / "code.py"
    code.write_text("a = 1")
    first = code_digest((str(code),), 1, "two")
    assert first == code_digest((str(code),), 1, "two")
    assert first != code_digest((str(code),), 1, "three")
    code.write_text("a = 2")
    assert first != code_digest((str(code),), 1, "two")
