"""Work begun before its result is needed: rollouts asked ahead of the learner, which is all that
tells synchronous from asynchronous, and packs made ready ahead of it."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from rl.algorithms.interfaces import Pending
from rl.data.records import ScoredGroup

T = TypeVar("T")


class StaleRollout(RuntimeError):
    """An answer was written by a policy older than the recipe allows."""


class Lookahead(Generic[T]):
    """Takes results in the order of steps, up to `depth` steps asked beyond the one taken.

    With depth 0 a step is asked only when it is taken, so its answers come from the policy that
    they train. With depth k they come from a policy at most k versions older.
    """

    def __init__(
        self, submit: Callable[[int], Pending[T]], *, first: int, stop: int, depth: int
    ) -> None:
        """`submit(step)` begins the work of a step and returns at once."""
        self._submit = submit
        self._next = first
        self._stop = stop
        self._depth = depth
        self._taken = first
        self._pending: deque[Pending[T]] = deque()
        self.seconds = 0.0
        """What the step taken last took of the engines' time, waited for or not."""

    def next_result(self) -> T:
        """The result of the next step."""
        while self._next < min(self._stop, self._taken + self._depth + 1):
            self._pending.append(self._submit(self._next))
            self._next += 1
        self._taken += 1
        pending = self._pending.popleft()
        result = pending.result()
        self.seconds = pending.seconds
        return result


def check_staleness(groups: Iterable[ScoredGroup], *, oldest: int) -> None:
    """Check that every answer comes from version `oldest` or later.

    Raises:
        StaleRollout: names the problem and both versions.
    """
    for scored in groups:
        for answer in scored.group.answers:
            if answer.version < oldest:
                raise StaleRollout(
                    f"an answer to problem {scored.group.problem.id!r} comes from policy version "
                    f"{answer.version}, older than version {oldest}, the oldest that max_staleness "
                    "allows; an engine missed a weight sync"
                )
