"""The problems that a run learns from: one source or several in fixed shares, in their order, and
how far the run has come, so that a resume loses none and repeats none."""

import json
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from configs.schema.data import CurriculumConfig, TrainingDataConfig
from rl.data.order import (
    EpochOrder,
    FileOrder,
    MixedOrder,
    Order,
    PassRateOrder,
    ShuffledOrder,
    SortedOrder,
)
from rl.data.problems import ProblemSet
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
        self._again: deque[tuple[int, int]] = deque()
        """Positions and places that were handed out before a resume and were not done then."""
        self._open: dict[str, deque[tuple[int, int]]] = {}
        """Positions and places handed out, by the problem's id, oldest first."""

    def take(self, count: int) -> list[Problem]:
        """The next `count` problems."""
        old = [self._again.popleft() for _ in range(min(count, len(self._again)))]
        fresh = range(self._next, self._next + count - len(old))
        self._next = fresh.stop
        taken = [*old, *((position, self._order.item(position)) for position in fresh)]
        problems = self._select([place for _, place in taken])
        for problem, own in zip(problems, taken, strict=True):
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
        handed_out = [each for own in self._open.values() for each in own]
        still = sorted([*self._again, *handed_out])
        state = {
            "next": self._next,
            "again": [position for position, _ in still],
            "places": [place for _, place in still],  # an order may have let their epochs go
            "order": self._order.state(),
        }
        path.write_text(json.dumps(state) + "\n", "utf-8")

    def restore(self, path: Path, *, before: int = 0) -> None:
        """Go on from what `save` wrote: what was not done then is handed out first.

        Where it wrote nothing, as in checkpoints of earlier versions, `before` positions are done.
        """
        if not path.is_file():
            self._next = before
            return
        state = json.loads(path.read_text("utf-8"))
        self._next = state["next"]
        self._open.clear()
        self._order.restore(state["order"])
        again: list[int] = state["again"]
        places = state.get("places") or [self._order.item(position) for position in again]
        self._again = deque(zip(again, places, strict=True))


class TrainingProblems:
    """Sets of problems behind one another, and a cursor that goes through them.

    A place is a problem's number over all sets.
    """

    def __init__(self, sets: Mapping[str, ProblemSet], data: TrainingDataConfig, seed: int) -> None:
        """`sets`: the usable problems of `data.sources`, by their names."""
        self._sets = list(sets.values())
        self._ends = list(accumulate(len(own) for own in self._sets))
        self._data, self._seed = data, seed
        self.rewind()

    def rewind(self) -> None:
        """Begin with the first problem again."""
        order = _order_of(self._sets, self._data, self._seed)
        self.cursor = ProblemCursor(order, self.select)
        """What the loop takes problems from."""

    def __len__(self) -> int:
        return self._ends[-1]

    @property
    def rejected(self) -> Counter[str]:
        """Rows left out, by reason."""
        return sum((own.rejected for own in self._sets), Counter[str]())

    @property
    def fingerprints(self) -> NDArray[np.uint64]:
        """uint64 [n] of all usable rows, set behind set."""
        return np.concatenate([own.fingerprints for own in self._sets])

    def first(self, count: int) -> list[Problem]:
        """The first `count` problems of all sets, taken in turn."""
        turns = [
            (place, start + place)
            for start, end in zip([0, *self._ends], self._ends, strict=False)
            for place in range(min(count, end - start))
        ]
        return self.select([place for _, place in sorted(turns)[:count]])

    def one_of_each(self) -> list[Problem]:
        """The first problem of each set."""
        return [own.first(1)[0] for own in self._sets]

    def select(self, places: Sequence[int]) -> list[Problem]:
        """The problems at `places`, in that order."""
        found: dict[int, Problem] = {}
        start = 0
        for own, end in zip(self._sets, self._ends, strict=True):
            mine = sorted({place for place in places if start <= place < end})
            found |= zip(mine, own.select([place - start for place in mine]), strict=True)
            start = end
        return [found[place] for place in places]

    def with_ids(self, ids: Collection[str]) -> dict[str, Problem]:
        """The problems of these ids."""
        wanted = set(ids)
        names = (name for own in self._sets for name in own.ids)
        places = [place for place, name in enumerate(names) if name in wanted]
        return {problem.id: problem for problem in self.select(places)}


def _order_of(sets: Sequence[ProblemSet], data: TrainingDataConfig, seed: int) -> Order:
    orders = [_of_one_set(own, data, seed) for own in sets]
    return MixedOrder(orders, data.weights) if data.mix else orders[0]


def _of_one_set(problems: ProblemSet, data: TrainingDataConfig, seed: int) -> EpochOrder:
    size = len(problems)
    plain = ShuffledOrder(size, seed) if data.shuffle else FileOrder(size)
    curriculum: CurriculumConfig | None = data.curriculum
    if curriculum is None:
        return plain
    if curriculum.column is None:
        return PassRateOrder(curriculum.first, plain)
    return SortedOrder(problems.numbers_in(curriculum.column), curriculum.first, plain)
