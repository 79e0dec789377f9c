"""What comes from elsewhere is read as data: no file that is read can run code."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.repository import ROOT

PACKAGES = ("actors", "configs", "models", "rewards", "rl")
OWN_FILES = {"models/assembly/processor.py"}
"""Trusts code that it has just written itself."""


def trees() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text("utf-8"))


def calls(tree: ast.Module, function: str) -> Iterator[dict[str, str]]:
    """Keyword arguments of each call of `function`, such as torch.load, as source."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == function:
            yield {word.arg: ast.unparse(word.value) for word in node.keywords if word.arg}


def test_torch_files_are_read_as_weights_only() -> None:
    found = [call for _, tree in trees() for call in calls(tree, "torch.load")]
    assert found and all(call.get("weights_only") == "True" for call in found)


def test_arrays_are_read_without_pickles_and_nothing_is_unpickled() -> None:
    for name, tree in trees():
        assert all(
            call.get("allow_pickle", "False") == "False" for call in calls(tree, "np.load")
        ), name
        imported = {
            alias.name.partition(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in [*node.names, ast.alias(getattr(node, "module", "") or "")]
        }
        assert not imported & {"pickle", "cloudpickle", "dill", "joblib", "marshal"}, name


def test_code_of_a_checkpoint_is_trusted_only_where_the_recipe_says_so() -> None:
    literal = {
        name
        for name, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword)
        and node.arg == "trust_remote_code"
        and isinstance(node.value, ast.Constant)
        and node.value.value
    }
    assert literal <= OWN_FILES
    recipes = Path(ROOT / "configs" / "recipes").rglob("*.yaml")
    assert not [path for path in recipes if "trust_remote_code: true" in path.read_text("utf-8")]
