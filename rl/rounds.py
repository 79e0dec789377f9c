"""Rounds of distillation and fine-tuning, each on chains of its own policy (paper, section 2.2).

    python rl/rounds.py [recipe] [section.key=value ...] [--dry-run] [--help]

Run again, it goes on where it was; --dry-run tells what is finished and what a changed recipe would
run again.
"""

import sys
from pathlib import Path

# Python puts rl/ first, where names of ours hide other packages; Ray hands it on to workers.
sys.path[:] = [str(Path(__file__).resolve().parents[1]), *sys.path[1:]]

from configs.jobs.rounds import RoundsRecipe
from rl.console.command import run_command


def main(argv: list[str]) -> None:
    """Run the rounds that the recipe names."""
    from rl.stages.runs import rounds_plan, rounds_run

    run_command(
        argv,
        RoundsRecipe,
        lambda command: rounds_run(command.recipe),
        default="digits_rounds",
        dry_run=rounds_plan,
        flags=("--dry-run", "--help"),
    )


if __name__ == "__main__":
    main(sys.argv[1:])
