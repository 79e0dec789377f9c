"""The schema of a plan: which recipes, and what is changed in them."""

from configs.schema.base import StrictModel


class PlanRecipe(StrictModel):
    """The plans of recipes, on the machines that they are written for."""

    recipes: tuple[str, ...] = ()
    """Recipes, by file, run folder or name; on the command line they stand by themselves. None: all
    shipped ones for GPUs."""
    changes: tuple[str, ...] = ()
    """Changes to each of them, as section.key=value; they stand by themselves too."""
