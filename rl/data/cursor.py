"""How far a run has come through its problems, so that a resume loses none and repeats none."""

import json
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rl.data.order import Order
from rl.data.records import Problem


class ProblemCursor:
    """Hands problems out in order, and keeps those that are not done yet."""

    def __init__(
        self, order: Order, select: Callable[[Sequence[int]], list[Problem]], start: int = 0
    ) -> None:
        """`select`: the problems at some places of the data; `start`: the first position."""
        self._order = order
        self._select = select
        self._next = start
        self._again: deque[int] = deque()
        """Positions that were handed out before a resume and were not done then."""
        self._open: dict[str, deque[tuple[int, int]]] = {}
        """Positions and places handed out, by the problem's id, oldest first."""

    def take(self, count: int) -> list[Problem]:
        """The next `count` problems."""
        old = [self._again.popleft() for _ in range(min(count, len(self._again)))]
        fresh = range(self._next, self._next + count - len(old))
        self._next = fresh.stop
        positions = [*old, *fresh]
        places = [self._order.item(position) for position in positions]
        problems = self._select(places)
        for problem, own in zip(problems, zip(positions, places, strict=True), strict=True):
            self._open.setdefault(problem.id, deque()).append(own)
        return problems

    def done(self, asked: Iterable[tuple[Problem, float]]) -> None:
        """Count problems as used; with each the share of right answers, NaN where unknown."""
        for problem, rate in asked:
            own = self._open[problem.id]
            _, place = own.popleft()
            self._order.note(place, rate)
            if not own:
                del self._open[problem.id]

    def save(self, path: Path) -> None:
        """Write how far the run has come, as JSON."""
        handed_out = [position for own in self._open.values() for position, _ in own]
        still = sorted([*self._again, *handed_out])
        state = {"next": self._next, "again": still, "order": self._order.state()}
        path.write_text(json.dumps(state) + "\n", "utf-8")

    def restore(self, path: Path, *, before: int = 0) -> None:
        """Go on from what `save` wrote: what was not done then is handed out first.

        Where it wrote nothing, as in checkpoints of earlier versions, `before` positions are done.
        """
        if not path.is_file():
            self._next = before
            return
        state = json.loads(path.read_text("utf-8"))
        self._next, self._again = state["next"], deque(state["again"])
        self._open.clear()
        self._order.restore(state["order"])
