"""Mixed Preference Optimization on preference pairs with images, as a Ray Train job.

Skywork R1V2 (arXiv 2504.16656) goes from its start policy by MPO and then GRPO. Each worker is a
DeepSpeed rank; both answers of a pair are read in one pass; the loss is the mean over the pairs of
a step (rl/objectives/preferences.py). All else is as in rl/sft.py.

    python rl/mpo.py [recipe] [section.key=value ...] [--resume] [--dry-run] [--help]
"""

import sys
from pathlib import Path

# Python puts rl/ first, where names of ours hide other packages; Ray hands it on to workers.
sys.path[:] = [str(Path(__file__).resolve().parents[1]), *sys.path[1:]]

from configs.jobs.mpo import MPORecipe
from configs.loading.recipe import Command
from rl.console.command import run_command


def mpo(command: Command[MPORecipe]) -> None:
    """Train as the recipe says, as one Ray Train job."""
    from rl.jobs.sft import sft_command

    sft_command(command.recipe, resume=command.resume)


def main(argv: list[str]) -> None:
    """Read the command line, and train."""
    from rl.jobs.dry_run import print_plan

    run_command(argv, MPORecipe, mpo, default="digits_mpo", dry_run=print_plan)


if __name__ == "__main__":
    main(sys.argv[1:])
