"""Problems whose answers were long the last time are begun first, and answers stay in place."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest

from actors.cluster.driver_loop import DriverLoop
from actors.rollout.requests import LongestFirst, _key
from actors.rollout.rollouts import Rollouts
from rl.data.records import Group, Problem, SamplingRequest
from tests.unit.step_samples import answer, score

REQUEST = SamplingRequest(2, 1.0, 64, seed=7)


@dataclass
class Pool:
    """Engine and reward worker in one, which notes in what order problems come."""

    lengths: dict[str, int]
    seeds: dict[str, int] = field(default_factory=dict)

    async def run(self, call: Callable[[Any], Awaitable[Any]]) -> Any:
        own = SimpleNamespace(
            sample=SimpleNamespace(remote=self._sample), score=SimpleNamespace(remote=self._score)
        )
        return await call(own)

    async def _sample(self, problem: Problem, request: SamplingRequest) -> Group:
        self.seeds[problem.id] = request.seed
        await asyncio.sleep(0)
        return Group(problem, (1,), (answer(self.lengths[problem.id]),) * request.count)

    async def _score(self, problem: Problem, completions: Sequence[object]) -> list[Any]:
        return [score(1.0) for _ in completions]


@pytest.fixture
def loop() -> Iterator[DriverLoop]:
    loop = DriverLoop()
    yield loop
    loop.close()


def problems(names: str) -> list[Problem]:
    return [Problem(name, "?", ("1",)) for name in names]


def test_the_longest_of_the_last_time_are_begun_first_and_unknown_ones_in_the_middle(
    loop: DriverLoop,
) -> None:
    pool = Pool({"a": 3, "b": 40, "c": 8, "d": 20, "x": 5})
    refs: Any = SimpleNamespace(put=lambda problem: problem)
    pools: Any = SimpleNamespace(engines=pool, rewards=pool, reference=None, teacher=None)
    rollouts = Rollouts(loop, pools, refs=refs, timeout_s=60)

    first = rollouts.submit(problems("abcd"), REQUEST).result()
    assert list(pool.seeds) == ["a", "b", "c", "d"]  # nothing is known yet
    drawn = dict(pool.seeds)

    for again in (
        lambda: rollouts.submit(problems("axbcd"), REQUEST).result(),
        lambda: [each.result()[0] for each in rollouts.begin(problems("axbcd"), REQUEST)],
    ):
        rollouts._longest_first._lengths.pop(_key(problems("x")[0]), None)
        pool.seeds.clear()
        groups = again()
        assert list(pool.seeds) == ["b", "d", "x", "c", "a"]
        assert [group.group.problem.id for group in groups] == list("axbcd")
        assert {name: pool.seeds[name] for name in "abcd"} == drawn
        assert [g for g in groups if g.group.problem.id != "x"] == first


def test_a_held_out_problem_says_nothing_of_a_training_problem_of_the_same_id() -> None:
    first, second = problems("ab")
    order = LongestFirst()
    order.note(Group(first, (1,), (answer(8),)))
    order.note(Group(second, (1,), (answer(40),)))
    for held_out in (replace(second, question="!"), replace(second, images=(b"another",))):
        order.note(Group(held_out, (1,), (answer(1),)))
    assert order.places([first, second]) == [1, 0]
