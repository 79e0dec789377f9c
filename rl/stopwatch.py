"""Seconds of a step, by phase."""

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from rl.records import ScoredGroup


class Stopwatch:
    """Starts when it is made."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._phases: dict[str, float] = {}

    @contextmanager
    def time(self, phase: str) -> Generator[None]:
        """Add the seconds spent inside to `phase`."""
        began = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - began
            self._phases[phase] = self._phases.get(phase, 0.0) + spent

    def metrics(self, groups: Sequence[ScoredGroup], under_way_s: float) -> dict[str, float]:
        """seconds in all and by phase; rollout_tokens; and these by second of the `under_way_s`
        from being asked to the last score, in which later steps may have been under way too."""
        tokens = sum(len(answer.token_ids) for g in groups for answer in g.group.answers)
        return {
            "seconds": time.perf_counter() - self._began,
            **{f"seconds_{phase}": spent for phase, spent in self._phases.items()},
            "rollout_tokens": float(tokens),
            "rollout_tokens_per_s": tokens / under_way_s,
        }
