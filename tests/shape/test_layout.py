"""The repository keeps its shape: what lies where, how long files are, what they may not hold."""

import ast
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from tests.repository import ROOT

PACKAGES = ("actors", "configs", "models", "rewards", "rl")
FOLDERS = {*PACKAGES, ".ci", "benchmarks", "docs", "tests"}
FILES = {
    ".gitignore",
    ".pre-commit-config.yaml",
    "LICENSE",
    "Makefile",
    "README.md",
    "cluster.yaml",
    "pyproject.toml",
}
MAX_LINES = 300
# Written apart, so that this file does not hold what it looks for.
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|X" + r"XX)\b")
OF_ONE_MACHINE = re.compile(r"(?<![\w.~/-])/(wo" + r"rk|op" + r"t|ro" + r"ot)/")


@cache
def project_files() -> list[Path]:
    """Files of the project, as git knows them or would; ignored ones are left out."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip(f"not a git checkout: {listed.stderr.strip()}")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def texts() -> dict[str, str]:
    """Every text file of the project by its path."""
    held: dict[str, str] = {}
    for path in project_files():
        content = path.read_bytes()
        if b"\0" not in content:
            held[path.relative_to(ROOT).as_posix()] = content.decode("utf-8")
    return held


def test_the_top_level_holds_what_was_agreed_and_no_more() -> None:
    paths = [path.relative_to(ROOT).parts for path in project_files()]
    assert {parts[0] for parts in paths if len(parts) > 1} <= FOLDERS
    assert {parts[0] for parts in paths if len(parts) == 1} == FILES
    assert set(PACKAGES) <= {parts[0] for parts in paths}
    assert (".ci", "run") in paths


def test_no_python_file_is_longer_than_one_can_read() -> None:
    lengths = {path: text.count("\n") for path, text in texts().items() if path.endswith(".py")}
    too_long = {path: lines for path, lines in lengths.items() if lines > MAX_LINES}
    assert not too_long, f"over {MAX_LINES} lines: split by idea"


def test_packages_speak_through_logging_or_a_console_and_never_print() -> None:
    found: list[str] = []
    for path, text in texts().items():
        if path.endswith(".py") and path.startswith(PACKAGES):
            calls = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call))
            found += [
                f"{path}:{call.lineno}"
                for call in calls
                if isinstance(call.func, ast.Name) and call.func.id == "print"
            ]
    assert not found


@pytest.mark.parametrize("unwanted", [UNFINISHED, OF_ONE_MACHINE], ids=["unfinished", "machine"])
def test_nothing_is_left_unfinished_or_bound_to_one_machine(unwanted: re.Pattern[str]) -> None:
    found = [
        f"{path}:{number}: {line.strip()}"
        for path, text in texts().items()
        for number, line in enumerate(text.splitlines(), 1)
        if unwanted.search(line)
    ]
    assert not found


def test_files_are_small() -> None:
    large = {path.name: path.stat().st_size for path in project_files()}
    assert not {name: size for name, size in large.items() if size > 1_000_000}
