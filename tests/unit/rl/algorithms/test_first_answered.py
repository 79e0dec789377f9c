"""The learner takes what was answered first; stragglers are dropped when they get too old, once."""

import random
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from rl.algorithms import first_answered
from rl.algorithms.first_answered import Charged, FirstAnswered
from rl.algorithms.grpo import train
from rl.console.progress import CONSOLE
from rl.data.records import Problem, ScoredGroup
from rl.storage.jsonl import read_lines
from tests.unit.rl.algorithms.bandit import Bandit, asked_from
from tests.unit.step_samples import answer, recipe, scored


class Engines:
    """Answer what they were asked whenever somebody waits, in any order, and some of it unasked."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.numbers = iter(range(10**6))
        self.asked: Counter[str] = Counter()
        self.open: dict[Future[Charged], ScoredGroup] = {}
        self.cancelled = 0
        self.in_time = True
        """Whether the wait for an answer sees it; else it comes right behind."""

    def begin(
        self, step: int, again: Sequence[Problem], count: int
    ) -> list[tuple[Problem, Future[Charged]]]:
        fresh = [Problem(str(next(self.numbers)), "?", ("1",)) for _ in range(count)]
        begun: list[tuple[Problem, Future[Charged]]] = []
        for problem in [*again, *fresh]:
            self.asked[problem.id] += 1
            future: Future[Charged] = Future()
            answers = [answer(2, version=step)] * 2
            self.open[future] = scored([1.0, 0.0], name=problem.id, answers=answers)
            begun.append((problem, future))
        return begun

    def answer_one(self) -> None:
        for future in [each for each in self.open if each.cancelled()]:
            self.cancelled += 1
            del self.open[future]
        if self.open:
            future = self.chance.choice(list(self.open))
            future.set_result((self.open.pop(future), 0.25))

    def wait(self, futures: Sequence[Future[Charged]], *_: object) -> Any:
        """In place of waiting for another thread."""
        assert futures
        self.answer_one()

        class Done:
            done = self.in_time

        return Done


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("seed", range(20))
def test_each_problem_is_learned_from_once_and_never_too_late_whoever_is_slow(
    monkeypatch: pytest.MonkeyPatch, depth: int, seed: int
) -> None:
    engines, size, stop = Engines(seed), 3, 12
    monkeypatch.setattr(first_answered, "wait", engines.wait)
    rollouts = FirstAnswered(engines.begin, size=size, stop=stop, depth=depth)
    learned: Counter[str] = Counter()
    dropped = 0
    for step in range(stop):
        groups = rollouts.next_groups(step)
        assert len(groups) == size
        assert rollouts.seconds == size * 0.25
        ages = [step - group.group.oldest_version for group in groups]
        assert max(ages) <= depth and ages == sorted(ages, reverse=True)
        learned.update(group.group.problem.id for group in groups)
        dropped += rollouts.dropped
        for _ in range(engines.chance.randrange(5)):  # while the learner learns
            engines.answer_one()
    assert learned == Counter({str(i): 1 for i in range(size * stop)})
    assert sum(engines.asked.values()) == size * stop + dropped
    assert max(engines.asked.values()) <= 2
    assert next(engines.numbers) == size * stop


@pytest.mark.parametrize("seed", range(20))
def test_lines_count_the_groups_that_are_waited_for_down_to_one(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    engines, size = Engines(seed), 3
    engines.in_time = False
    monkeypatch.setattr(first_answered, "wait", engines.wait)
    rollouts = FirstAnswered(engines.begin, size=size, stop=12, depth=2)
    for step in range(12):
        with CONSOLE.capture() as said:
            rollouts.next_groups(step)
        lines = said.get().splitlines()
        told = [int(line.split()[2]) for line in lines]
        assert lines == [f"waiting for {count} groups of step {step + 1}" for count in told]
        assert told == sorted(told, reverse=True)
        assert not told or (told[0] <= size and told[-1] == 1)


def test_a_straggler_is_dropped_counted_asked_again_and_then_waited_for(tmp_path: Path) -> None:
    rollout = {"group_size": 4, "max_new_tokens": 1, "stragglers": "drop"}
    plan = recipe(steps=8, problems_per_step=2, max_staleness=1, rollout=rollout, seed=5)
    run = Bandit(plan, tmp_path)
    run.engines.slow_s = {"2": 0.3}
    run.train(train)
    lines = list(read_lines(tmp_path / "metrics.jsonl"))
    assert all(line["max_staleness"] <= 1 for line in lines)
    dropped = sum(line["dropped_groups"] for line in lines)
    assert dropped == sum(future.cancelled() for future in run.engines.begun) > 0
    samples = list(read_lines(tmp_path / "samples.jsonl"))
    learned = Counter(line["problem"] for line in samples if line["sample"] == 0)
    assert learned == Counter(problem.id for problem in asked_from(5).take(16))


def test_where_nobody_is_slow_steps_learn_from_the_problems_in_their_order(tmp_path: Path) -> None:
    rollout = {"group_size": 4, "max_new_tokens": 1, "stragglers": "drop"}
    plan = recipe(steps=8, problems_per_step=2, max_staleness=1, rollout=rollout, seed=5)
    run = Bandit(plan, tmp_path)
    run.train(train)
    assert all(line["dropped_groups"] == 0 for line in read_lines(tmp_path / "metrics.jsonl"))
    samples = list(read_lines(tmp_path / "samples.jsonl"))
    learned = [line["problem"] for line in samples if line["sample"] == 0]
    assert learned == [problem.id for problem in asked_from(5).take(16)]


def test_a_failure_of_one_problem_ends_the_run() -> None:
    def begin(
        step: int, again: Sequence[Problem], count: int
    ) -> list[tuple[Problem, Future[Charged]]]:
        future: Future[Charged] = Future()
        future.set_exception(ConnectionError("the engine left"))
        return [(Problem("p", "?", ("1",)), future)]

    with pytest.raises(ConnectionError):
        FirstAnswered(begin, size=1, stop=3, depth=1).next_groups(0)


def test_nothing_is_dropped_on_policy_so_it_is_refused_there() -> None:
    with pytest.raises(ValueError, match=r"stragglers=drop with max_staleness=0: .* waits for"):
        recipe(rollout={"stragglers": "drop"})
