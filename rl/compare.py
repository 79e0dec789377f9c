"""Two evaluations side by side: paired bootstrap over problems, and an exact test.

    python rl/compare.py first=RUN_FOLDER second=RUN_FOLDER [out=FILE.md] [--help]

McNemar's exact test where each problem was answered once, else a sign test on the mean scores.
"""

import sys
from pathlib import Path

# Python puts rl/ first, where names of ours hide other packages; Ray hands it on to workers.
sys.path[:] = [str(Path(__file__).resolve().parents[1]), *sys.path[1:]]

from configs.jobs.evaluate import CompareRecipe
from configs.loading.recipe import Command
from rl.console.command import run_command


def compare(command: Command[CompareRecipe]) -> None:
    """Read both runs' answers, and show what differs."""
    from rl.benchmarks.compare import compare_runs

    compare_runs(command.recipe)


def main(argv: list[str]) -> None:
    """Read the command line, and compare."""
    run_command(argv, CompareRecipe, compare, default=None, flags=("--help",))


if __name__ == "__main__":
    main(sys.argv[1:])
