"""Distils adaptive-length chains of thought from a policy's own answers (paper, section 2.3).

    python rl/distill.py [recipe] [section.key=value ...] [--resume] [--dry-run] [--help]

What it writes is what rl/sft.py reads: chats in parquet files, images by reference beside them.
"""

import sys
from pathlib import Path

# Python puts rl/ first, where names of ours hide other packages; Ray hands it on to workers.
sys.path[:] = [str(Path(__file__).resolve().parents[1]), *sys.path[1:]]

from configs.jobs.distill import DistillRecipe
from rl.console.command import run_command


def main(argv: list[str]) -> None:
    """Distil as the recipe says."""
    from rl.jobs.distill import distill_command
    from rl.jobs.dry_run import print_plan

    run_command(
        argv,
        DistillRecipe,
        lambda command: distill_command(command.recipe, command.resume),
        default="digits_distill",
        dry_run=print_plan,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
