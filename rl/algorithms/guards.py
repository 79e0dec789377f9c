"""What ends a run early, or is warned of: answers without a reward, rewards that teach nothing,
updates not finite, engines of other weights."""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from math import isfinite

from rl.data.records import ScoredGroup, UpdateReport

logger = logging.getLogger(__name__)

_JUDGED_FROM = 200
"""Answers before the share is judged: a run does not end on the luck of its first step."""
_SHOWN = 5
_Offence = tuple[str, str, str]
"""Problem id, reward, cause."""


class TooManyUnscored(RuntimeError):
    """The share of answers without a reward passed the recipe's limit."""


class UnscoredGuard:
    """Counts answers without a reward, and ends the run when they are too large a share."""

    def __init__(self, max_share: float) -> None:
        """`max_share`: largest share of unscored answers that is allowed, in [0, 1]."""
        self._max_share = max_share
        self.answers = 0
        self.without_reward = 0
        self._offences: Counter[_Offence] = Counter()
        self._details: dict[_Offence, str] = {}

    def check(self, groups: Iterable[ScoredGroup]) -> None:
        """Count the answers of `groups`.

        Raises:
            TooManyUnscored: over the limit after 200 answers or more; lists the problems and
                rewards that were at fault most often.
        """
        for scored in groups:
            for score in scored.scores:
                self.answers += 1
                self.without_reward += score.reward is None
                for name, verdict in score.verdicts.items():
                    if not verdict.counts:
                        offence = (scored.group.problem.id, name, verdict.cause)
                        self._offences[offence] += 1
                        self._details[offence] = verdict.detail
        if self.answers < _JUDGED_FROM or self.without_reward / self.answers <= self._max_share:
            return
        shown = "\n".join(
            f"  {times} times {offence[2]} by {offence[1]} on problem {offence[0]!r}: "
            f"{self._details[offence]}"
            for offence, times in self._offences.most_common(_SHOWN)
        )
        raise TooManyUnscored(
            f"{self.without_reward} of {self.answers} answers "
            f"({self.without_reward / self.answers:.1%}) could not be scored, over "
            f"reward.max_unscored_share={self._max_share:g}; mend these rows or rewards, or "
            f"raise the limit:\n{shown}"
        )


_FLAT_STEPS = 3
"""Steps in a row without a useful group that are warned of first; then twice as many, and so on."""


class FlatRewardsWarner:
    """Warns while no group's rewards differ, so that nothing is learned."""

    def __init__(self) -> None:
        self._in_a_row = 0
        self._told_at = _FLAT_STEPS

    def check(self, groups: Sequence[ScoredGroup], taught: bool, step: int) -> None:
        """Look at one step, which `taught` or not, and say when several in a row did not."""
        if taught:
            self._in_a_row, self._told_at = 0, _FLAT_STEPS
            return
        self._in_a_row += 1
        if self._in_a_row < self._told_at:
            return
        self._told_at *= 2
        rewards = {score.reward for scored in groups for score in scored.scores}
        every = f"all are {rewards.pop()}" if len(rewards) == 1 else "equal within each group"
        logger.warning(
            "step %d: no group's rewards differ in %d steps running (%s), so nothing is learned. "
            "Look at the answers in samples.jsonl: are they cut off (rollout.max_new_tokens), do "
            "golds and rewards fit the problems, are the problems too hard or too easy?",
            step,
            self._in_a_row,
            every,
        )


NOTHING_LEARNED = UpdateReport(metrics={}, answers={}, skips=())
"""The report of a step whose groups all had equal rewards."""


class DivergedError(RuntimeError):
    """Too many updates in a row met a loss or gradient that is not finite."""


class NonFiniteGuard:
    """Counts skipped updates in a row, and ends the run when there are too many."""

    def __init__(self, most: int) -> None:
        """`most`: skipped updates in a row that end the run."""
        self._most = most
        self._in_a_row = 0

    def check(self, report: UpdateReport, step: int) -> None:
        """Count a report's updates in their order; a step with nothing to learn has none.

        Raises:
            DivergedError: as many updates in a row as the recipe allows were skipped.
        """
        for skipped in report.skips:
            self._in_a_row = self._in_a_row + 1 if skipped else 0
            if self._in_a_row >= self._most:
                raise DivergedError(
                    f"step {step}: loss or gradient not finite in {self._in_a_row} updates in a "
                    f"row (learner.max_skipped_in_a_row={self._most}); none of them changed the "
                    "policy. Lower learner.optimizer.lr, or look at samples.jsonl for odd ones"
                )


class GapOverBound(RuntimeError):
    """Sampler and learner disagree on the probabilities of what was sampled."""


_GAPS_IN_A_ROW = 3


class GapGuard:
    """Ends the run when engines and learner have parted."""

    def __init__(self, bound: float) -> None:
        """`bound`: largest mean absolute gap of sampler and learner logprobs, nats."""
        self._bound = bound
        self._in_a_row = 0

    def check(self, report: UpdateReport, step: int) -> None:
        """Look at one step's `logprob_gap`; steps without one, or not finite, do not count.

        Raises:
            GapOverBound: it passed the bound in three steps running.
        """
        gap = report.metrics.get("logprob_gap")
        if gap is None or not isfinite(gap):
            return
        self._in_a_row = self._in_a_row + 1 if gap > self._bound else 0
        if self._in_a_row >= _GAPS_IN_A_ROW:
            raise GapOverBound(
                f"step {step}: sampler and learner logprobs are {gap:.3g} nats apart on average, "
                f"over sync.max_logprob_gap={self._bound:g} in {self._in_a_row} steps running. "
                "Look for other precision, sampling or kernels in the engines than in the learner; "
                "with max_staleness above 0 also for a learning rate that moves the policy far"
            )
