"""Updates that did not happen: steps without news, and steps whose gradient was not finite."""

from rl.records import UpdateReport

NOTHING_LEARNED = UpdateReport(metrics={}, gaps={}, skipped=False)
"""The report of a step whose groups all had equal rewards."""


class DivergedError(RuntimeError):
    """Too many updates in a row met a loss or gradient that is not finite."""


class SkipGuard:
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
