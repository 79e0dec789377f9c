"""The plan of a run: its actors, and what they hold of GPUs and hosts, told from configs alone.

Nothing is started or downloaded. A recipe that does not fit the machine that it names is refused
with the reason and the nearest change that fits; each job looks the same way at the cluster first.
Without a recipe, the plans of all shipped ones for GPUs.

    python rl/plan.py [recipe ...] [section.key=value ...] [--help]
"""

import json
import sys
from pathlib import Path

# Python puts rl/ first, where names of ours hide other packages; Ray hands it on to workers.
sys.path[:] = [str(Path(__file__).resolve().parents[1]), *sys.path[1:]]

from configs.jobs.plan import PlanRecipe
from configs.loading.recipe import Command
from rl.console.command import run_command


def plan(command: Command[PlanRecipe]) -> None:
    """Print the plans."""
    from rl.planning.recipes import print_plans

    print_plans(command.recipe)


def main(argv: list[str]) -> None:
    """Read the command line, where recipes and changes stand by themselves, and print the plans."""
    flags = [word for word in argv if word.startswith("-")]
    changes = [word for word in argv if "=" in word and word not in flags]
    recipes = [word for word in argv if word not in flags and word not in changes]
    words = {"recipes": recipes, "changes": changes}
    given = [f"{key}={json.dumps(value)}" for key, value in words.items() if value]
    run_command([*given, *flags], PlanRecipe, plan, default=None, flags=("--help",))


if __name__ == "__main__":
    main(sys.argv[1:])
