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

from configs.loading.recipe import RECIPES, load_recipe
from configs.schema.sft import SFTRecipe
from rl.console.errors import exit_on_user_error


def main(argv: list[str]) -> None:
    """Train as the recipe says, as one Ray Train job."""
    from rl.jobs.dry_run import dry_run_only

    command = load_recipe(argv, SFTRecipe, RECIPES / "digits_sft.yaml")
    with exit_on_user_error():
        if dry_run_only(command):
            return
        from rl.jobs.sft import sft_command

        sft_command(command.recipe, resume=command.resume)


if __name__ == "__main__":
    main(sys.argv[1:])
