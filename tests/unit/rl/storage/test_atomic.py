"""Files and folders are written aside and get their name when they are whole."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rl.console.errors import UserError
from rl.storage.atomic import atomic_file, atomic_folder, link_or_copy, refuse_existing, unfinished
from tests.repository import ROOT


def test_a_file_is_replaced_only_when_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_text("old")
    with atomic_file(path) as aside:
        aside.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_whose_writer_fails_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_text("old")
    with pytest.raises(OSError, match="disk full"), atomic_file(path) as aside:
        aside.write_text("ha")
        raise OSError("disk full")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_with_files_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with atomic_folder(tmp_path / "out") as aside:  # an empty one is taken over
        (aside / "config.json").touch()
    with pytest.raises(ValueError, match="is there already"), atomic_folder(tmp_path / "out"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_is_replaced_only_when_the_new_one_is_whole(tmp_path: Path) -> None:
    best = tmp_path / "best"
    for name in ("first", "second"):
        with atomic_folder(best, existing="replace") as aside:
            (aside / name).touch()
    with pytest.raises(OSError, match="full"), atomic_folder(best, existing="replace") as aside:
        (aside / "third").touch()
        raise OSError("disk full")
    assert [path.name for path in best.iterdir()] == ["second"]
    assert [path.name for path in unfinished(best).iterdir()] == ["third"]


def test_a_copy_shares_its_bytes_where_links_are_possible(tmp_path: Path) -> None:
    source = tmp_path / "weights"
    source.write_text("1")
    link_or_copy(str(source), str(tmp_path / "again"))
    assert (tmp_path / "again").samefile(source)


def test_files_that_only_their_owner_could_read_get_the_umasks_mode(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with atomic_folder(tmp_path / "policy") as aside:
            save_file({"w": torch.ones(2)}, aside / "model.safetensors")
            (aside / "deep").mkdir()
            save_file({"w": torch.ones(2)}, aside / "deep" / "model.safetensors")
            (aside / "run.sh").write_text("#!/bin/sh\n")
            (aside / "run.sh").chmod(0o755)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "policy").rglob("*.*")}
    assert modes == {"model.safetensors": 0o640, "run.sh": 0o755}
    assert (tmp_path / "policy/deep/model.safetensors").stat().st_mode & 0o777 == 0o640


def test_weights_are_never_written_into_a_package_of_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    for folder in (Path("models/r1v"), ROOT / "rl" / "deep" / "down"):
        with pytest.raises(UserError, match=rf"{folder} lies in .*such as checkpoints/"):
            refuse_existing(folder)
    for folder in (Path("checkpoints/models"), tmp_path / "models" / "r1v"):
        refuse_existing(folder)
