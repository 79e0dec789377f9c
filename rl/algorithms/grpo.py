"""The GRPO loop."""

from configs.jobs.grpo import GRPORecipe
from rl.algorithms.guards import (
    NOTHING_LEARNED,
    FlatRewardsWarner,
    GapGuard,
    NonFiniteGuard,
    UnscoredGuard,
)
from rl.algorithms.interfaces import GRPOParts
from rl.algorithms.lookahead import StepRollouts
from rl.algorithms.training_rows import (
    learned_metrics,
    logged_groups,
    step_advantages,
    training_rows,
)
from rl.run_log.answer_metrics import (
    answer_metrics,
    image_metrics,
    source_metrics,
    staleness_metrics,
)
from rl.run_log.timing import StepTimer


def train(recipe: GRPORecipe, parts: GRPOParts, first: int = 0) -> None:
    """Run the steps from `first` to the recipe's last; the engines hold version `first` already.

    Raises:
        StaleRollout: an answer's policy lags more than `recipe.max_staleness` versions.
        DivergedError: too many updates in a row met a loss or gradient that is not finite.
        GapOverBound: sampler and learner logprobs parted.
        TooManyUnscored: too many verdicts say nothing of the policy.
    """
    rollouts = StepRollouts(recipe, parts.problems, parts.rollouts, first)
    guard = NonFiniteGuard(recipe.learner.max_skipped_in_a_row)
    gaps = GapGuard(recipe.sync.max_logprob_gap)
    unscored = UnscoredGuard(recipe.reward.max_unscored_share)
    flat = FlatRewardsWarner()

    for step in range(first, recipe.steps):
        watch = StepTimer(step, parts.span)
        with watch.time("rollout"):
            groups = rollouts.next_groups()
        unscored.check(groups)

        advantages = step_advantages(groups, recipe.loss)
        own = training_rows(groups, advantages, all_answers=recipe.loss.has_teacher)
        flat.check(groups, bool(own), step)
        asked = sum(len(scored.scores) for scored in groups)
        rows = own if parts.buffer is None else parts.buffer.mix(step, own, asked)
        report = NOTHING_LEARNED
        with watch.time("update"):
            if rows:
                parts.weights.make_room()
                report = parts.learner.update(rows)
        guard.check(report, step)
        gaps.check(report, step)
        with watch.time("sync"):
            parts.weights.sync(step + 1)

        metrics = answer_metrics(groups, recipe.reward) | staleness_metrics(groups, step)
        metrics |= source_metrics(groups, recipe.reward) | image_metrics(groups) | rollouts.metrics
        metrics |= {**learned_metrics(groups, own, rows), **report.metrics}
        parts.log.write_step(
            step,
            metrics | watch.metrics(groups, rollouts.seconds),
            logged_groups(
                groups, advantages, report, parts.token_texts, recipe.log.tokens_per_step
            ),
        )
        done = step + 1
        last = done == recipe.steps
        parts.best.see_step(metrics)
        better = False
        if parts.evaluate and (last or done % recipe.evaluation.every == 0):
            figures = parts.evaluate()
            parts.log.write_evaluation(done, figures)
            better = parts.best.see_evaluation(done, figures)
        due = last or done % recipe.checkpoint.every == 0
        if due:
            better |= parts.best.see_checkpoint(done)
        if due or better:
            parts.save(done)
