"""Seconds of a step by phase, and of engines by step."""

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

from rl.data.records import ScoredGroup


class BusyTime:
    """Charges each of n pieces of work under way 1/n of the time, so that all charges add up to the
    time in which anything was."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._last = now()
        self._under_way = 0
        self._charged = 0.0
        """What work that began with the first and never ended would have been charged."""

    def _bring_up(self) -> float:
        now = self._now()
        self._charged += (now - self._last) / max(1, self._under_way)
        self._last = now
        return self._charged

    @contextmanager
    def share(self) -> Generator[Callable[[], float]]:
        """A piece of work lasts as long as the block; the seconds charged to it so far."""
        began = self._bring_up()
        self._under_way += 1
        try:
            yield lambda: self._bring_up() - began
        finally:
            self._bring_up()
            self._under_way -= 1


Span = Callable[[str], AbstractContextManager[object]]
"""A context that lasts as long as what it names, for who draws a timeline."""


class StepTimer:
    """Starts when it is made."""

    def __init__(self, step: int = 0, span: Span = nullcontext) -> None:
        """`span`: is told of each phase of `step`, by both names."""
        self._step = step
        self._span = span
        self._began = time.perf_counter()
        self._phases: dict[str, float] = {}

    @contextmanager
    def time(self, phase: str) -> Generator[None]:
        """Add the seconds spent inside to `phase`."""
        began = time.perf_counter()
        try:
            with self._span(f"step {self._step + 1}: {phase}"):
                yield
        finally:
            spent = time.perf_counter() - began
            self._phases[phase] = self._phases.get(phase, 0.0) + spent

    def metrics(self, groups: Sequence[ScoredGroup], engine_s: float) -> dict[str, float]:
        """seconds in all and by phase; rollout_tokens; and these by second of `engine_s`, the
        groups' share of the engines' time."""
        tokens = sum(len(answer.token_ids) for g in groups for answer in g.group.answers)
        return {
            "seconds": time.perf_counter() - self._began,
            **{f"seconds_{phase}": spent for phase, spent in self._phases.items()},
            "rollout_tokens": float(tokens),
            "rollout_tokens_per_s": tokens / engine_s,
        }
