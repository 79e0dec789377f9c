"""Supervised fine-tuning on chats with images, as a Ray Train job.

Each worker is a DeepSpeed rank. Step s takes the next `batch` chats of an order that seed and step
alone decide; every rank works the plan out for itself and packs its share into rows of
`learner.max_tokens_per_microbatch` tokens; the loss is the mean over all trained tokens of the
step. The loop is rl/algorithms/sft.py.

    python rl/sft.py [recipe] [section.key=value ...] [--resume] [--dry-run] [--help]
"""

import sys
from pathlib import Path

# Python puts rl/ first, where names of ours hide other packages; Ray hands it on to workers.
sys.path[:] = [str(Path(__file__).resolve().parents[1]), *sys.path[1:]]

from configs.jobs.sft import SFTRecipe
from configs.loading.recipe import Command
from rl.console.command import run_command


def sft(command: Command[SFTRecipe]) -> None:
    """Train as the recipe says, as one Ray Train job."""
    from rl.jobs.sft import sft_command

    sft_command(command.recipe, resume=command.resume)


def main(argv: list[str]) -> None:
    """Read the command line, and train."""
    from rl.jobs.dry_run import print_plan

    run_command(argv, SFTRecipe, sft, default="digits_sft", dry_run=print_plan)


if __name__ == "__main__":
    main(sys.argv[1:])
