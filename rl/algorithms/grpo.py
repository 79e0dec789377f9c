"""The GRPO loop."""

from configs.jobs.grpo import GRPORecipe
from rl.algorithms.guards import (
    NOTHING_LEARNED,
    FlatRewardsWarner,
    GapGuard,
    NonFiniteGuard,
    UnscoredGuard,
)
from rl.algorithms.interfaces import GRPOParts, Pending
from rl.algorithms.lookahead import Lookahead, check_staleness
from rl.algorithms.training_rows import (
    learned_metrics,
    logged_groups,
    step_advantages,
    training_rows,
)
from rl.data.records import SamplingRequest, ScoredGroup
from rl.run_log.answer_metrics import (
    answer_metrics,
    right_shares,
    source_metrics,
    staleness_metrics,
)
from rl.run_log.timing import StepTimer

_SEED_STRIDE = 1_000_000
"""Keeps the draws of one seed's steps apart from another seed's."""


def train(recipe: GRPORecipe, parts: GRPOParts, first: int = 0) -> None:
    """Run the steps from `first` to the recipe's last; the engines hold version `first` already.

    Raises:
        StaleRollout: an answer's policy lags more than `recipe.max_staleness` versions.
        DivergedError: too many updates in a row met a loss or gradient that is not finite.
        GapOverBound: sampler and learner logprobs parted.
        TooManyUnscored: too many verdicts say nothing of the policy.
    """

    def submit(step: int) -> Pending[list[ScoredGroup]]:  # begins, and waits for nothing
        rollout = recipe.rollout
        request = SamplingRequest.drawn(
            rollout,
            count=rollout.group_size,
            max_new_tokens=rollout.max_new_tokens,
            seed=recipe.seed * _SEED_STRIDE + step,
        )
        return parts.rollouts.submit(parts.problems.take(recipe.problems_per_step), request)

    ahead = Lookahead(submit, first=first, stop=recipe.steps, depth=recipe.max_staleness)
    guard = NonFiniteGuard(recipe.learner.max_skipped_in_a_row)
    gaps = GapGuard(recipe.sync.max_logprob_gap)
    unscored = UnscoredGuard(recipe.reward.max_unscored_share)
    flat = FlatRewardsWarner()

    for step in range(first, recipe.steps):
        watch = StepTimer(step, parts.span)
        with watch.time("rollout"):
            groups = ahead.next_result()
        check_staleness(groups, oldest=step - recipe.max_staleness)
        parts.problems.done(right_shares(groups, recipe.reward))
        unscored.check(groups)

        advantages = step_advantages(groups, recipe.loss)
        own = training_rows(groups, advantages, all_answers=recipe.loss.has_teacher)
        flat.check(groups, bool(own), step)
        asked = sum(len(scored.scores) for scored in groups)
        rows = own if parts.buffer is None else parts.buffer.mix(step, own, asked)
        with watch.time("update"):
            report = parts.learner.update(rows) if rows else NOTHING_LEARNED
        guard.check(report, step)
        gaps.check(report, step)
        with watch.time("sync"):
            parts.weights.sync(step + 1)

        metrics = answer_metrics(groups, recipe.reward) | staleness_metrics(groups, step)
        metrics |= source_metrics(groups, recipe.reward)
        metrics |= {**learned_metrics(groups, own, rows), **report.metrics}
        parts.log.write_step(
            step,
            metrics | watch.metrics(groups, ahead.seconds),
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
