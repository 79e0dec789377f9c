"""Asks a model the problems of benchmarks, k times each, and tells how many it gets right.

A checkpoint through engines of our own, or a served model; answers are scored by the same rewards
as in training, all of them kept, and a run that was killed goes on where it was: --resume.

    python rl/evaluate.py [recipe] [section.key=value ...] [--resume] [--dry-run] [--help]
"""

import sys
from pathlib import Path

# Python puts rl/ first, where names of ours hide other packages; Ray hands it on to workers.
sys.path[:] = [str(Path(__file__).resolve().parents[1]), *sys.path[1:]]

from configs.jobs.evaluate import EvaluateRecipe
from configs.loading.recipe import Command
from rl.console.command import run_command


def evaluate(command: Command[EvaluateRecipe]) -> None:
    """Ask the benchmarks that the recipe names."""
    from rl.jobs.evaluate import evaluate_run

    evaluate_run(command.recipe, resume=command.resume)


def main(argv: list[str]) -> None:
    """Evaluate as the recipe says."""
    from rl.jobs.dry_run import print_plan

    run_command(argv, EvaluateRecipe, evaluate, default="digits_evaluate", dry_run=print_plan)


if __name__ == "__main__":
    main(sys.argv[1:])
