"""Every command and the recipe that it reads, found by looking at rl/."""

from collections.abc import Callable
from importlib import import_module

from pydantic import BaseModel

from configs.schema.base import StrictModel
from configs.schema.run import RunRecipe
from tests.repository import ROOT


def _recipe_of(module: object) -> type[BaseModel]:
    (recipe,) = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, StrictModel)
    ]
    return recipe


_MODULES = [
    import_module(f"rl.{path.stem}")
    for path in sorted((ROOT / "rl").glob("*.py"))
    if path.stem != "__init__"
]
COMMANDS: dict[type[BaseModel], Callable[[list[str]], None]] = {
    _recipe_of(module): module.main for module in _MODULES
}
RUNS: dict[type[RunRecipe], Callable[[list[str]], None]] = {
    recipe: main for recipe, main in COMMANDS.items() if issubclass(recipe, RunRecipe)
}
"""Those that leave a run folder; recipes of these are shipped."""
