"""Alignment of a projector with a language model: supervised passes one after another.

As Skywork R1V was aligned (arXiv 2504.05599, section 2.1): all data, then the better part, then
chains of thought; vision tower and language model stay frozen, so what the tower makes of an image
is computed once. All passes are one Ray Train job; each starts from the weights of the one before.

    python rl/align.py [recipe] [section.key=value ...] [--resume] [--dry-run] [--help]
"""

import sys
from pathlib import Path

# Python puts rl/ first, where names of ours hide other packages; Ray hands it on to workers.
sys.path[:] = [str(Path(__file__).resolve().parents[1]), *sys.path[1:]]

from configs.jobs.sft import AlignRecipe
from configs.loading.recipe import Command
from rl.console.command import run_command


def align(command: Command[AlignRecipe]) -> None:
    """Train as the recipe says, as one Ray Train job."""
    from rl.jobs.sft import sft_command

    sft_command(command.recipe, resume=command.resume)


def main(argv: list[str]) -> None:
    """Read the command line, and train."""
    from rl.jobs.dry_run import print_plan

    run_command(argv, AlignRecipe, align, default="digits_align", dry_run=print_plan)


if __name__ == "__main__":
    main(sys.argv[1:])
