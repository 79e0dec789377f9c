"""Passes over a set of problems through engines that answer; what is finished stays finished."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rl.algorithms.interfaces import AnswerStream
from rl.console.progress import phase
from rl.data.problems import ProblemSet
from rl.data.records import Problem, SamplingRequest, ScoredGroup
from rl.storage.journal import Journal

_READ_AT_A_TIME = 64

Note = Callable[[ScoredGroup], dict[str, Any]]
Asked = tuple[Problem, SamplingRequest, Note]
"""A problem as it is asked, how, and what is kept of its answers."""
Ask = Callable[[int, Problem], Asked]
"""From a problem's number and itself to how it is asked."""


@dataclass(frozen=True, slots=True)
class ProblemPasses:
    """Asks problems, pass by pass, and keeps each row as soon as it is scored."""

    problems: ProblemSet
    folder: Path
    """Each pass has a folder here."""
    rows_per_shard: int
    at_a_time: int
    """Problems under way at a time."""

    def journal(self, name: str) -> Journal:
        """What pass `name` has finished so far."""
        return Journal(self.folder / name, self.rows_per_shard)

    def read(self, indices: Sequence[int]) -> Iterator[tuple[int, Problem]]:
        """Problems by their numbers, a few at a time in memory."""
        for start in range(0, len(indices), _READ_AT_A_TIME):
            some = indices[start : start + _READ_AT_A_TIME]
            yield from zip(some, self.problems.select(some), strict=True)

    def run(self, name: str, indices: Iterable[int], rollouts: AnswerStream, ask: Ask) -> Journal:
        """Ask those of `indices` that pass `name` has not finished; `ask` says how."""
        journal = self.journal(name)
        left = [index for index in indices if index not in journal.done]
        notes: dict[int, tuple[int, Note]] = {}

        def requests() -> Iterator[tuple[Problem, SamplingRequest]]:
            for place, (index, problem) in enumerate(self.read(left)):
                asked, request, note = ask(index, problem)
                notes[place] = index, note
                yield asked, request

        with phase(name, len(left)) as work:
            for place, group in rollouts.stream(requests(), at_a_time=self.at_a_time):
                index, note = notes.pop(place)
                journal.write(index, note(group))
                work.advance()
        journal.close()
        return journal
