"""What a run writes must outlive it, and reach every rank."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from actors.cluster import shared_folder as folders
from actors.cluster.shared_folder import (
    UnusableFolder,
    check_reached,
    check_run_folder,
    file_visible,
)


def test_a_folder_in_a_submitted_job_s_copy_of_the_project_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "runtime_resources" / "working_dir_files" / "_ray_pkg_12"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    with pytest.raises(UnusableFolder, match=r"_ray_pkg_12/runs/x.*set log.folder to an absolute"):
        check_run_folder(Path("runs/x"))
    check_run_folder(tmp_path / "runs" / "x")


@pytest.mark.parametrize("folder", ["a_file", "a_file/x", "/proc/nobody/x"])
def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, folder: str) -> None:
    (tmp_path / "a_file").touch()
    with pytest.raises(UnusableFolder, match=rf"{folder}, cannot be written \(.*set log.folder"):
        check_run_folder(tmp_path / folder)


def test_a_folder_that_can_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    check_run_folder(tmp_path / "runs" / "x")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_all_ranks_reach_is_left_as_it_was(tmp_path: Path) -> None:
    looked: list[Path] = []

    def look(marker: Path) -> Sequence[str | None]:
        looked.append(marker)
        return [file_visible(None, marker), file_visible(None, marker)]

    check_reached(tmp_path / "runs", look)
    assert looked and not list((tmp_path / "runs").iterdir())


def test_nodes_that_do_not_reach_the_folder_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "_LATE_S", 0.0)
    monkeypatch.setattr(folders.ray.util, "get_node_ip_address", lambda: "10.0.0.7")

    def look(marker: Path) -> Sequence[str | None]:
        return [
            file_visible(None, marker),
            file_visible(None, tmp_path / "not mounted" / marker.name),
        ]

    with pytest.raises(UnusableFolder, match=r"ranks on 10\.0\.0\.7 do not see .*runs"):
        check_reached(tmp_path / "runs", look)
    assert not list((tmp_path / "runs").iterdir())
