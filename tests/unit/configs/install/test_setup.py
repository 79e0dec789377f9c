"""`make setup` in a checkout that was moved: the environment of the old place is left alone."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.repository import ROOT

_PYTHON = """#!/bin/sh
# Stands for Python: makes environments that note what pip was asked, and checks pass.
case "$*" in
*--version*) echo "Python 3.11.7" ;;
*"-m venv"*)
    mkdir -p .venv/bin
    echo "VIRTUAL_ENV=$(pwd)/.venv" >.venv/bin/activate
    cp "$FAKE" .venv/bin/python
    ;;
*"-m pip install"*) echo "$0 $*" >>"$LOG" ;;
esac
"""


def set_up(checkout: Path, spare: Path, **said: str) -> str:
    """Run the script there with a Python that installs nothing; what pip was asked, by whom.

    `said`: further variables of the environment.
    """
    fake = spare / "python"
    fake.write_text(_PYTHON, "utf-8")
    fake.chmod(0o755)
    log = spare / "asked.log"
    log.unlink(missing_ok=True)
    known = {"PATH": f"{spare}:/usr/bin:/bin", "FAKE": str(fake), "LOG": str(log)}
    command = ["sh", "configs/install/setup.sh"]
    done = subprocess.run(
        command,
        cwd=checkout,
        env=known | {"PYTHON": str(fake)} | said,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr + (log.read_text("utf-8") if log.is_file() else "")


@pytest.fixture
def spare(tmp_path: Path) -> Path:
    """A folder for programs that stand for others; the first of the PATH."""
    folder = tmp_path / "spare"
    folder.mkdir()
    return folder


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the script needs of a checkout."""
    folder = tmp_path / "first"
    folder.mkdir()
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "configs").mkdir()
    shutil.copytree(ROOT / "configs" / "install", folder / "configs" / "install")
    return folder


def with_driver(spare: Path, version: str) -> None:
    program = spare / "nvidia-smi"
    program.write_text(f"#!/bin/sh\necho {version}\n", "utf-8")
    program.chmod(0o755)


def test_the_engine_can_be_named_where_the_machine_does_not_show_it(
    checkout: Path, spare: Path
) -> None:
    assert "-e .[cpu,dev] -c configs/install/cpu.txt" in set_up(checkout, spare, ENGINE="cpu")
    assert "-e .[gpu,dev] -c configs/install/gpu.txt" in set_up(checkout, spare, ENGINE="gpu")
    assert "ENGINE=tpu is neither cpu nor gpu" in set_up(checkout, spare, ENGINE="tpu")


def test_a_driver_that_is_too_old_is_refused_before_anything_is_installed(
    checkout: Path, spare: Path
) -> None:
    with_driver(spare, "570.124.06")
    said = set_up(checkout, spare)
    assert "the NVIDIA driver is 570.124.06; CUDA 13 needs 580 or newer" in said
    assert "pip install" not in said
    with_driver(spare, "580.65.06")
    assert "-e .[gpu,dev]" in set_up(checkout, spare)


def test_an_environment_that_was_moved_is_made_anew_and_one_in_place_is_kept(
    checkout: Path, spare: Path, tmp_path: Path
) -> None:
    first = checkout
    assert "made elsewhere" not in set_up(first, spare)
    assert set_up(first, spare) == "", "nothing has changed"

    (first / ".venv" / "mark").touch()
    (first / "pyproject.toml").open("a", encoding="utf-8").write("\n")
    assert "made elsewhere" not in set_up(first, spare)
    assert (first / ".venv" / "mark").is_file()

    second = tmp_path / "second"
    os.rename(first, second)
    said = set_up(second, spare)
    assert "was made elsewhere" in said
    assert not (second / ".venv" / "mark").exists()
    assert ".venv/bin/python -m pip install -e" in said
    assert sys.executable not in said
