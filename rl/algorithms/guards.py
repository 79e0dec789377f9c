"""Stops a run in which too many verdicts say nothing of the policy."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from rl.data.records import ScoredGroup, UpdateReport, Verdict

_JUDGED_FROM = 200
"""Answers before the share is judged: a run does not end on the luck of its first step."""
_SHOWN = 5


class TooManyUnscored(RuntimeError):
    """The share of answers without a reward passed the recipe's limit."""


@dataclass(frozen=True, slots=True)
class Unscored:
    """Answers so far, those of them without a reward, and the verdicts that were at fault."""

    answers: int = 0
    without_reward: int = 0
    offences: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    """Count by (problem id, reward, cause)."""
    details: Mapping[tuple[str, str, str], str] = field(default_factory=dict)
    """One verdict's words for each of those."""

    @property
    def share(self) -> float:
        """Answers without a reward, as a share of all."""
        return self.without_reward / self.answers if self.answers else 0.0


def count_unscored(so_far: Unscored, groups: Iterable[ScoredGroup]) -> Unscored:
    """`so_far` with the answers of `groups` counted in."""
    answers, without = so_far.answers, so_far.without_reward
    offences, details = Counter(so_far.offences), dict(so_far.details)
    for scored in groups:
        for score in scored.scores:
            answers += 1
            without += score.reward is None
            for name, verdict in _silent(score.verdicts):
                key = (scored.group.problem.id, name, verdict.cause)
                offences[key] += 1
                details[key] = verdict.detail
    return Unscored(answers, without, offences, details)


def refuse_unscored(counts: Unscored, max_share: float) -> None:
    """Nothing while the share is within the limit, or fewer than 200 answers were scored.

    Raises:
        TooManyUnscored: with the problems and rewards that were at fault most often.
    """
    if counts.answers < _JUDGED_FROM or counts.share <= max_share:
        return
    worst = sorted(counts.offences.items(), key=lambda item: -item[1])[:_SHOWN]
    shown = "\n".join(
        f"  {times} times {cause} by {name} on problem {problem!r}: {counts.details[key]}"
        for key, times in worst
        for problem, name, cause in [key]
    )
    raise TooManyUnscored(
        f"{counts.without_reward} of {counts.answers} answers ({counts.share:.1%}) could not be "
        f"scored, over reward.max_unscored_share={max_share:g}; mend these rows or rewards, or "
        f"raise the limit:\n{shown}"
    )


def _silent(verdicts: Mapping[str, Verdict]) -> list[tuple[str, Verdict]]:
    return [(name, said) for name, said in verdicts.items() if not said.counts]


NOTHING_LEARNED = UpdateReport(metrics={}, gaps={}, skipped=False)
"""The report of a step whose groups all had equal rewards."""


class DivergedError(RuntimeError):
    """Too many updates in a row met a loss or gradient that is not finite."""


class NonFiniteGuard:
    """Counts refused updates in a row, and ends the run when there are too many."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._in_a_row = 0

    def check(self, report: UpdateReport, step: int) -> None:
        """Count one report; a step that had nothing to learn was no update, and is not counted.

        Raises:
            DivergedError: this was the last refused update that the recipe allows.
        """
        if report is NOTHING_LEARNED:
            return
        self._in_a_row = self._in_a_row + 1 if report.skipped else 0
        if self._in_a_row >= self._most:
            raise DivergedError(
                f"step {step}: loss or gradient not finite in {self._in_a_row} updates in a row "
                f"(learner.max_skipped_in_a_row={self._most}); the policy is as it was before "
                "them. Lower learner.optimizer.lr, or look at samples.jsonl for odd ones"
            )
