"""Problems in Ray's object store: each is put there once and sent by reference."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray

from rl.algorithms.rows import MicroBatch
from rl.data.records import Problem


@dataclass(frozen=True, slots=True)
class SharedBatches:
    """Micro-batches on their way to another process; each image travels once a node."""

    batches: Sequence[MicroBatch]
    """Rows whose problems have been left without images."""
    problems: Sequence[Any]
    """Object refs of the whole problems."""

    def open(self) -> list[MicroBatch]:
        """The micro-batches with their problems whole."""
        whole = {problem.id: problem for problem in ray.get(list(self.problems))}
        return [
            tuple(replace(row, problem=whole[row.problem.id]) for row in batch)
            for batch in self.batches
        ]


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
        key = (problem.id, problem.question, problem.context, problem.images)
        if key not in self._refs:
            self._refs[key] = ray.put(problem)
        self._refs.move_to_end(key)
        while len(self._refs) > self._capacity:
            self._refs.popitem(last=False)
        return self._refs[key]

    def share(self, batches: Sequence[MicroBatch]) -> SharedBatches:
        """The micro-batches with their problems as refs. No two problems may bear the same id."""
        problems = {row.problem.id: row.problem for batch in batches for row in batch}
        light = [
            tuple(replace(row, problem=row.problem.without_images()) for row in batch)
            for batch in batches
        ]
        return SharedBatches(light, [self.put(problem) for problem in problems.values()])
