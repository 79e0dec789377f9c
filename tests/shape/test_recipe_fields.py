"""A field that nobody reads is a promise that nobody keeps."""

import ast
from collections.abc import Iterator
from functools import cache

import pytest
from pydantic import BaseModel

from configs.jobs.pipeline import PartsPathsConfig
from tests.commands import COMMANDS
from tests.repository import ROOT
from tests.shape.recipe_reads import RecipeReads, models_in

READERS = ("rl", "actors", "models", "rewards")


BY_NAME = (PartsPathsConfig,)
"""Sections whose fields a pipeline takes by the names of the parts."""


def derived(tree: ast.Module) -> list[ast.AST]:
    """What a recipe makes of its fields for everyone; its checks use nothing."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return [
        node
        for node in functions
        if any(isinstance(by, ast.Name) and by.id == "property" for by in node.decorator_list)
        or (node in tree.body and not node.name.startswith("_"))
    ]


def fields_of(schema: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Dotted names of a recipe's fields, but for sections, each with the section that has it."""
    for name, field in schema.model_fields.items():
        inner = models_in(field.annotation)
        if not inner:
            yield f"{prefix}{name}", schema
        for model in inner:
            yield from fields_of(model, f"{prefix}{name}.")


FIELDS = sorted(
    {field for recipe in COMMANDS for field in fields_of(recipe) if field[1] not in BY_NAME},
    key=lambda field: (field[0], field[1].__name__),
)


def lineage(models: set[type[BaseModel]]) -> set[type[BaseModel]]:
    """The models and the schemas that they inherit from."""
    return {
        base
        for model in models
        for base in model.__mro__
        if issubclass(base, BaseModel) and base is not BaseModel
    }


@cache
def reads_of_the_repository() -> RecipeReads:
    parsed = {
        ast.parse(path.read_text("utf-8")): folder
        for folder in ("configs", *READERS)
        for path in (ROOT / folder).rglob("*.py")
    }
    sections = {model for _, model in FIELDS} | set(COMMANDS)
    counted = {
        tree: derived(tree) if folder == "configs" else [tree] for tree, folder in parsed.items()
    }
    return RecipeReads(lineage(sections), counted)


@pytest.mark.parametrize(
    ("name", "section"), FIELDS, ids=[f"{name}-{section.__name__}" for name, section in FIELDS]
)
def test_a_field_of_the_recipe_is_read_by_some_code(name: str, section: type[BaseModel]) -> None:
    last = name.rpartition(".")[2]
    assert reads_of_the_repository().reads(section, last), f"nobody reads {name}: use or remove it"


class Optimizer(BaseModel):
    lr: float = 0.0
    decay: float = 0.0
    unread: float = 0.0


class Engine(BaseModel):
    lr: float = 0.0
    unread: float = 0.0


class Recipe(BaseModel):
    optimizer: Optimizer = Optimizer()
    engines: tuple[Engine, ...] = ()


READER = """
class Rank:
    def __init__(self, recipe: "Recipe") -> None:
        self._own = recipe.optimizer

    def step(self) -> float:
        return self._own.lr

def decay_of(recipe: Recipe | None) -> float:
    section, other = recipe.optimizer, recipe
    return section.decay

def of_something_else(log):
    return log.unread
"""
ENGINES = """
def rates(recipe: Recipe) -> list[float]:
    return [engine.lr for engine in recipe.engines]
"""


def test_a_namesake_in_another_section_is_no_read_of_the_field() -> None:
    models = {Optimizer, Engine, Recipe}
    tree = ast.parse(READER)
    reads = RecipeReads(models, {tree: [tree]})
    found = {(model, name) for model in models for name in model.model_fields}
    assert {(m, n) for m, n in found if reads.reads(m, n)} == {
        (Recipe, "optimizer"),
        (Optimizer, "lr"),
        (Optimizer, "decay"),
    }
    both = [tree, ast.parse(ENGINES)]
    assert RecipeReads(models, {each: [each] for each in both}).reads(Engine, "lr")
