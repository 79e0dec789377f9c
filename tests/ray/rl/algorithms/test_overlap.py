"""The loop on the real engine and learner: by turns it is the plain synchronous loop, bit for bit;
ahead of the learner each problem is learned from once, also across a resume."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray

from actors.cluster.pool import ActorPool
from actors.scoring.reward_worker import RewardWorker
from configs.jobs.grpo import GRPORecipe
from configs.schema.reward import RewardConfig
from rl.algorithms import lookahead
from rl.algorithms.best_policy import BestPolicy
from rl.algorithms.grpo import train
from rl.algorithms.interfaces import GRPOParts, Pending
from rl.data.order import FileOrder
from rl.data.records import Problem, SamplingRequest, ScoredGroup
from rl.data.training_problems import ProblemCursor
from rl.run_log.writer import RunLog
from rl.storage.jsonl import read_lines
from tests.ray.system import System, problem, recipe, running_system

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

STEPS, ASKED_A_STEP = 4, 3
QUESTIONS = [problem(number) for number in range(STEPS * ASKED_A_STEP)]
LENGTH = 48
REWARD = {"weights": {"length": 1.0}, "accuracy": "length", "overlong_tokens": LENGTH}
"""Untrained policies have nothing right, but some answers are shorter than others."""


def plan(folder: Path, name: str, staleness: int = 0, **rollout: Any) -> GRPORecipe:
    answers = {"group_size": 4, "max_new_tokens": LENGTH, "enforce_eager": True} | rollout
    return recipe(
        folder,
        name=name,
        steps=STEPS,
        problems_per_step=ASKED_A_STEP,
        max_staleness=staleness,
        rollout=answers,
        reward=REWARD,
        log={"wandb": False, "report": False},
    )


def cursor() -> ProblemCursor:
    return ProblemCursor(FileOrder(len(QUESTIONS)), lambda places: [QUESTIONS[i] for i in places])


class Run:
    """A run of the loop on the system, from its start policy."""

    def __init__(self, system: System, own: GRPORecipe, folder: Path) -> None:
        self.system, self.recipe, self.folder = system, own, folder
        self.problems = cursor()
        self.save: Callable[[int], None] = lambda step: None

    def go(self, first: int = 0) -> "Run":
        with RunLog(self.folder, self.recipe, resume=first or None) as log:
            parts = GRPOParts(
                self.problems,
                self.system.rollouts,
                self.system.learners,
                weights=self.system.actors.weights,
                evaluate=None,
                log=log,
                save=lambda step: self.save(step),
                best=BestPolicy(self.recipe.checkpoint.keep_best),
                token_texts=lambda ids: [str(i) for i in ids],
            )
            train(self.recipe, parts, first)
        return self

    def samples(self) -> list[dict[str, Any]]:
        return [_timeless(line) for line in read_lines(self.folder / "samples.jsonl")]

    def metrics(self) -> list[dict[str, Any]]:
        return [_timeless(line) for line in read_lines(self.folder / "metrics.jsonl")]

    def learned(self) -> Counter[str]:
        """How often each problem was learned from."""
        return Counter(line["problem"] for line in self.samples() if line["sample"] == 0)


def _timeless(line: dict[str, Any]) -> dict[str, Any]:
    timed = ("time", "seconds", "rollout_tokens_per_s", "tokens_per_s", "mfu")
    return {name: value for name, value in line.items() if not name.startswith(timed)}


@pytest.fixture(scope="module")
def reward_pool(cluster: None) -> Iterator[ActorPool]:
    worker = ray.remote(num_cpus=0, max_concurrency=8)(RewardWorker)
    config = RewardConfig.model_validate(REWARD)
    pool = ActorPool("reward", lambda _: worker.remote(config), size=1, restarts=0)
    yield pool
    for handle in pool.handles:
        ray.kill(handle)


@contextmanager
def starting(system: System, rewards: ActorPool) -> Iterator[Callable[[GRPORecipe, Path], Run]]:
    """Begins runs on `system`, each with the start policy as version 0."""
    own, version = system.rollouts._pools, system.version

    def begin(recipe: GRPORecipe, folder: Path) -> Run:
        system.learners.restore(system._start)
        system.actors.weights.sync(0)
        return Run(system, recipe, folder)

    system.rollouts._pools = replace(own, rewards=rewards)
    yield begin
    system.rollouts._pools = own
    system.version = version + STEPS
    system.reset()


@pytest.fixture
def start(system: System, reward_pool: ActorPool) -> Iterator[Callable[[GRPORecipe, Path], Run]]:
    with starting(system, reward_pool) as begin:
        yield begin


@pytest.fixture
def start_one_by_one(
    cluster: None, vlm_folder: Path, reward_pool: ActorPool, tmp_path: Path
) -> Iterator[Callable[[GRPORecipe, Path], Run]]:
    """On an engine that writes one answer at a time, on one thread each: how kernels round hangs on
    what else shares a pass, and on which of several threads comes first."""
    engine = {"max_new_tokens": LENGTH, "max_num_seqs": 1, "enforce_eager": True, "cpu_threads": 1}
    learner = recipe(vlm_folder).learner.model_dump() | {"cpu_threads": 1}
    plan = recipe(vlm_folder, rollout=engine, learner=learner)
    with (
        running_system(plan, vlm_folder, tmp_path / "system") as system,
        starting(system, reward_pool) as begin,
    ):
        yield begin


class ByTurns:
    """The plain synchronous way: a step is asked when it is taken, and waited for."""

    def __init__(
        self,
        submit: Callable[[int], Pending[list[ScoredGroup]]],
        *,
        first: int,
        stop: int,
        depth: int,
    ) -> None:
        self._submit, self._step = submit, first
        self.seconds = 0.0

    def next_result(self) -> list[ScoredGroup]:
        pending = self._submit(self._step)
        self._step += 1
        groups = pending.result()
        self.seconds = pending.seconds
        return groups


def test_staleness_0_is_the_synchronous_loop_bit_for_bit(
    start_one_by_one: Callable[[GRPORecipe, Path], Run],
    vlm_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = start_one_by_one
    ahead = start(plan(vlm_folder, "ahead"), tmp_path / "ahead").go()
    monkeypatch.setattr(lookahead, "Lookahead", ByTurns)
    # By now it is known which answers are long, so that problems are begun in another order.
    by_turns = start(plan(vlm_folder, "by_turns"), tmp_path / "by_turns").go()
    assert any("grad_norm" in line for line in ahead.metrics())
    assert {line["version"] for line in ahead.samples()} == set(range(STEPS))
    assert ahead.samples() == by_turns.samples()
    assert ahead.metrics() == by_turns.metrics()


class Cut(Exception):
    """Ends a run as if it was killed."""


def test_a_resume_one_step_ahead_asks_and_learns_what_is_left_once(
    start: Callable[[GRPORecipe, Path], Run], system: System, vlm_folder: Path, tmp_path: Path
) -> None:
    own = plan(vlm_folder, "cut", staleness=1)
    cut = start(own, tmp_path / "cut")
    saved = tmp_path / "saved"

    def save(step: int) -> None:
        system.learners.save(saved / "learner")
        cut.problems.save(saved / "problems.json")
        raise Cut

    cut.save = save
    cut.recipe = own.model_copy(
        update={"checkpoint": own.checkpoint.model_copy(update={"every": 2})}
    )
    with pytest.raises(Cut):
        cut.go()
    before = cut.learned()
    assert sum(before.values()) == 2 * ASKED_A_STEP

    resumed = Run(system, own, tmp_path / "cut")
    resumed.problems.restore(saved / "problems.json")
    asked = Counter[str]()
    take = resumed.problems.take

    def counted(count: int) -> Any:
        taken = take(count)
        asked.update(problem.id for problem in taken)
        return taken

    resumed.problems.take = counted
    system.learners.restore(saved / "learner")
    system.actors.weights.sync(2)
    resumed.go(first=2)
    everything = Counter({problem.id: 1 for problem in QUESTIONS})
    assert resumed.learned() == everything
    assert asked == everything - before
    assert [line["max_staleness"] for line in resumed.metrics()] == [0, 1, 0, 1]


def test_where_stragglers_are_dropped_no_answer_is_older_than_the_recipe_allows(
    start: Callable[[GRPORecipe, Path], Run],
    system: System,
    vlm_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = plan(vlm_folder, "drop", staleness=1, stragglers="drop")
    run = start(own, tmp_path / "drop")
    answered, asked = system.rollouts._measured, Counter[str]()

    async def never_at_first(problem: Problem, request: SamplingRequest) -> ScoredGroup:
        asked[problem.id] += 1
        if problem.id == QUESTIONS[0].id and asked[problem.id] == 1:
            await asyncio.Event().wait()
        return await answered(problem, request)

    monkeypatch.setattr(system.rollouts, "_measured", never_at_first)
    run.go()
    assert run.learned() == Counter({problem.id: 1 for problem in QUESTIONS})
    assert all(line["max_staleness"] <= 1 for line in run.metrics())
    dropped = sum(line["dropped_groups"] for line in run.metrics())
    assert dropped == asked.total() - len(QUESTIONS)
    assert asked[QUESTIONS[0].id] == 2
