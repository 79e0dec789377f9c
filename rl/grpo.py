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

from configs.jobs.grpo import GRPORecipe
from configs.loading.recipe import Command
from rl.console.command import run_command


def grpo(command: Command[GRPORecipe]) -> None:
    """Wire the actors that the recipe asks for, and train."""
    from rl.algorithms.grpo import train
    from rl.jobs.grpo import grpo_run
    from rl.tiny.start_policy import start_policy

    grpo_run(command.recipe, train, start_policy(command.recipe), resume=command.resume)


def main(argv: list[str]) -> None:
    """Train as the recipe says."""
    from rl.jobs.dry_run import print_plan

    run_command(argv, GRPORecipe, grpo, default="digits", dry_run=print_plan)


if __name__ == "__main__":
    main(sys.argv[1:])
