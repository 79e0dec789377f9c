"""GRPO on problems with images, told in one function.

Sample G answers to each of P problems, score them, compare siblings, update once, publish. As in
DeepSeekMath (arXiv:2402.03300), but for three points: the loss is one sum over the step divided by
its global token count (DAPO, arXiv:2503.14476), so that no cut into micro-batches changes the
gradient; groups of equal rewards are left out, since they have nothing to say; and the ratio is
taken against the sampler's own logprobs, so that late answers need no other code. A policy's
version is the number of steps behind it.

    python rl/grpo.py [recipe] [section.key=value ...] [--resume] [--dry-run] [--help]
"""

import sys
from pathlib import Path

# Python puts rl/ first, where names of ours hide other packages; Ray hands it on to workers.
sys.path[:] = [str(Path(__file__).resolve().parents[1]), *sys.path[1:]]

from configs.loading.recipe import RECIPES, load_recipe
from configs.schema.grpo import GRPORecipe
from rl.console.errors import exit_on_user_error


def main(argv: list[str]) -> None:
    """Wire the actors that the recipe asks for, and train."""
    from rl.jobs.dry_run import dry_run_only

    command = load_recipe(argv, GRPORecipe, RECIPES / "digits.yaml")
    with exit_on_user_error():
        if dry_run_only(command):
            return
        from rl.algorithms.grpo import train
        from rl.jobs.grpo import grpo_run
        from rl.tiny.start_policy import start_policy

        grpo_run(command.recipe, train, start_policy(command.recipe), resume=command.resume)


if __name__ == "__main__":
    main(sys.argv[1:])
