"""Rollouts of each step where the learner does not wait for stragglers: it takes the problems that
were answered first, and drops answers that would be too old for a later step."""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass

from rl.console.progress import CONSOLE, SILENT_S
from rl.data.records import Problem, ScoredGroup

Charged = tuple[ScoredGroup, float]
"""A group with its share of the engines' seconds."""
Begin = Callable[[int, Sequence[Problem], int], Sequence[tuple[Problem, "Future[Charged]"]]]
"""(step, problems to ask again, how many others) to all of them with what will answer them."""


@dataclass(eq=False, slots=True)
class _UnderWay:
    problem: Problem
    asked_of: int
    """Version of the policy that was asked; none of its answers' tokens is older."""
    again: bool
    """Answers to it were dropped before."""
    future: "Future[Charged]"

    @property
    def oldest(self) -> int:
        """Version of its answers' oldest token, or an older one while they are being written."""
        if not self.future.done():
            return self.asked_of
        return self.future.result()[0].group.oldest_version


class FirstAnswered:
    """Takes `size` groups a step, while those of `depth` further steps are under way.

    A group whose oldest token would be more than `depth` versions old in the next step is dropped,
    and its problem asked again. That befalls a problem once: then the learner waits for it, so that
    problems with long answers are learned from, too, and each problem once.
    """

    def __init__(self, begin: Begin, *, size: int, stop: int, depth: int) -> None:
        """`begin` asks problems and waits for nothing; `stop`: the step behind the last."""
        self._begin = begin
        self._size, self._stop, self._depth = size, stop, depth
        self._under_way: list[_UnderWay] = []
        self._dropped: list[Problem] = []
        self.seconds = 0.0
        """What the groups taken last took of the engines' time."""
        self.dropped = 0
        """Groups that were dropped when the last were taken."""

    def next_groups(self, step: int) -> list[ScoredGroup]:
        """Those of `step`, whose answers are at most `depth` versions old, the oldest first."""
        self._fill(step)
        taken = self._wait_for_enough(step)
        self._under_way = [each for each in self._under_way if each not in taken]
        self._drop(step)
        results = [each.future.result() for each in taken]
        self.seconds = sum(seconds for _, seconds in results)
        return [group for group, _ in results]

    def _fill(self, step: int) -> None:
        """Let as many be under way as there may be, or as are left to be learned from."""
        again, self._dropped = self._dropped, []
        most = self._size * min(self._depth + 1, self._stop - step)
        begun = self._begin(step, again, most - len(self._under_way) - len(again))
        self._under_way += [
            _UnderWay(problem, step, number < len(again), future)
            for number, (problem, future) in enumerate(begun)
        ]

    def _wait_for_enough(self, step: int) -> list[_UnderWay]:
        while True:
            unfinished = [each.future for each in self._under_way if not each.future.done()]
            by_age = sorted(self._under_way, key=lambda each: each.oldest)
            must = self._due([each for each in by_age if each.again], step)
            others = [each for each in by_age if each.future.done() and each not in must]
            taken = [*must, *others][: self._size]
            waited_for = [each for each in must if not each.future.done()]
            if len(taken) == self._size and not waited_for:
                return sorted(taken, key=lambda each: each.oldest)
            if not wait(unfinished, SILENT_S, FIRST_COMPLETED).done:
                missing = self._size - len(taken) + len(waited_for)
                CONSOLE.print(f"waiting for {missing} groups of step {step + 1}")

    def _due(self, again: Sequence[_UnderWay], step: int) -> list[_UnderWay]:
        """Of those asked again, the oldest first, as many as later steps have no room for."""
        due = 0
        for number, each in enumerate(again, start=1):
            later_steps = each.oldest + self._depth - step
            due = max(due, number - later_steps * self._size)
        return list(again[:due])

    def _drop(self, step: int) -> None:
        late = [each for each in self._under_way if step + 1 - each.oldest > self._depth]
        for each in late:
            each.future.cancel()
        self._under_way = [each for each in self._under_way if each not in late]
        self._dropped = [each.problem for each in late]
        self.dropped = len(late)
