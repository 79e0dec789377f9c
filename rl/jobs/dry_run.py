"""What --dry-run shows: the resolved recipe, and the plan of its run."""

from actors.cluster.plan import Recipe
from configs.loading.recipe import recipe_text
from rl.console.progress import CONSOLE
from rl.jobs.prepare import check_settings
from rl.planning.check import planned_run
from rl.planning.machine import Machine
from rl.planning.tables import print_run


def print_plan(recipe: Recipe) -> None:
    """Print the resolved recipe and what it would start. Nothing is started or downloaded.

    Raises:
        DoesNotFit: the machine that it names cannot run it as it stands.
    """
    CONSOLE.print(recipe_text(recipe))
    check_settings(recipe)
    run = planned_run(recipe, Machine.of_recipe(recipe))
    print_run(run)
    if run.plan.device == "cpu" and recipe.device == "auto":
        CONSOLE.print(
            "device=auto was taken for a machine without GPUs, as --dry-run asks no cluster; add "
            "device=cuda to see the plan on GPUs"
        )
    run.refuse_what_does_not_fit()
