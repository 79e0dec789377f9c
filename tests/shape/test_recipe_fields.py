"""A field that nobody reads is a promise that nobody keeps."""

import ast
from functools import cache

import pytest

from configs.loading.fields import known_fields
from tests.commands import COMMANDS
from tests.repository import ROOT

READERS = ("rl", "actors", "models", "rewards")


def attributes_read(tree: ast.AST) -> set[str]:
    """Names that stand behind a dot in `tree`, where they are read."""
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }


def properties(tree: ast.AST) -> list[ast.FunctionDef]:
    """Values that a recipe derives from its fields for everyone; its checks use nothing."""
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and any(isinstance(by, ast.Name) and by.id == "property" for by in node.decorator_list)
    ]


@cache
def read_somewhere() -> frozenset[str]:
    parsed = {
        path: ast.parse(path.read_text("utf-8"))
        for folder in ("configs", *READERS)
        for path in (ROOT / folder).rglob("*.py")
    }
    schemas = [tree for path, tree in parsed.items() if path.is_relative_to(ROOT / "configs")]
    derived = [node for tree in schemas for node in properties(tree)]
    readers = [tree for tree in parsed.values() if tree not in schemas]
    return frozenset().union(*(attributes_read(tree) for tree in [*readers, *derived]))


@pytest.mark.parametrize(
    "name", sorted({field.name for recipe in COMMANDS for field in known_fields(recipe)})
)
def test_a_field_of_the_recipe_is_read_by_some_code(name: str) -> None:
    assert name.split(".")[-1] in read_somewhere(), f"no code reads {name}: use it or remove it"
