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

# Python puts rl/ first, where no package of ours can be found.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from configs.schema import GRPORecipe
from rewards.limit import Unscored, count_unscored, refuse_unscored
from rl.advantages import group_advantages, rewards_of
from rl.interfaces import Parts, Pending
from rl.lookahead import Lookahead, check_fresh
from rl.records import SamplingRequest, ScoredGroup
from rl.rollout_metrics import answer_metrics, staleness_metrics
from rl.skips import NOTHING_LEARNED, SkipGuard
from rl.stopwatch import Stopwatch
from rl.training_rows import logged_groups, training_rows

_SEED_STRIDE = 1_000_000
"""Keeps the draws of one seed's steps apart from another seed's."""


def train(recipe: GRPORecipe, parts: Parts, first: int = 0) -> None:
    """Run the steps from `first` to the recipe's last; the engines hold version `first` already.

    Raises:
        StaleRollout: an answer's policy lags more than `recipe.max_staleness` versions.
        DivergedError: too many updates in a row met a loss or gradient that is not finite.
        TooManyUnscored: too many verdicts say nothing of the policy.
    """

    def ask(step: int) -> Pending[list[ScoredGroup]]:  # begins, and waits for nothing
        rollout = recipe.rollout
        request = SamplingRequest(
            rollout.group_size,
            rollout.temperature,
            rollout.max_new_tokens,
            recipe.seed * _SEED_STRIDE + step,
        )
        return parts.rollouts.ask(parts.problems.take(recipe.problems_per_step, step=step), request)

    ahead = Lookahead(ask, first=first, stop=recipe.steps, depth=recipe.max_staleness)
    guard = SkipGuard(recipe.learner.max_skipped_in_a_row)
    unscored = Unscored()

    for step in range(first, recipe.steps):
        watch = Stopwatch()
        with watch.time("rollout"):
            groups = ahead.take()
        check_fresh(groups, oldest=step - recipe.max_staleness)
        unscored = count_unscored(unscored, groups)
        refuse_unscored(unscored, recipe.reward.max_unscored_share)

        advantages = group_advantages(rewards_of(groups), recipe.loss.advantage)
        rows = training_rows(groups, advantages)
        with watch.time("update"):
            report = parts.learner.update(rows) if rows else NOTHING_LEARNED
        guard.check(report, step)
        with watch.time("sync"):
            parts.rollouts.publish(step + 1)

        metrics = answer_metrics(groups, recipe.reward) | staleness_metrics(groups, step)
        metrics |= {"useful_groups": len(rows) / len(groups), **report.metrics}
        parts.log.write_step(
            step,
            metrics | watch.metrics(groups, ahead.seconds),
            logged_groups(groups, advantages, report),
        )
        last = step + 1 == recipe.steps
        if parts.evaluate and (last or (step + 1) % recipe.evaluation.every == 0):
            parts.log.write_evaluation(step + 1, parts.evaluate())
        if last or (step + 1) % recipe.checkpoint.every == 0:
            parts.save(step + 1)


def main(argv: list[str]) -> None:
    """Wire the actors that the recipe asks for, and train."""
    from actors.dry_run import only_shown
    from configs.load import RECIPES, load_recipe
    from rl.refusal import told_plainly

    command = load_recipe(argv, GRPORecipe, RECIPES / "digits.yaml")
    with told_plainly():
        if only_shown(command):
            return
        from actors.run import grpo_run

        grpo_run(command.recipe, train, resume=command.resume)


if __name__ == "__main__":
    main(sys.argv[1:])
