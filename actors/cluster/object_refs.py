"""Problems in Ray's object store: each is put there once and sent by reference."""

from collections import OrderedDict
from typing import Any

import ray

from rl.data.records import Problem


class ProblemRefs:
    """Open problems in Ray's object store, each once, whoever needs it, however often it is sent.

    Holds the newest `capacity`; one that fell out is simply put again.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._refs: OrderedDict[tuple[Any, ...], Any] = OrderedDict()

    def put(self, problem: Problem) -> Any:
        """The problem's object ref, made at the first call."""
        # Training and held-out problems may bear the same ids.
        key = (problem.id, problem.question, problem.images)
        if key not in self._refs:
            self._refs[key] = ray.put(problem)
        self._refs.move_to_end(key)
        while len(self._refs) > self._capacity:
            self._refs.popitem(last=False)
        return self._refs[key]
