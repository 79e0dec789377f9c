"""The parts of the loop as plain objects: a table of logits that learns which arm is right."""

import math
import random
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from threading import Timer

import numpy as np

from configs.jobs.grpo import GRPORecipe
from rl.algorithms.best_policy import BestPolicy
from rl.algorithms.interfaces import Evaluator, GRPOParts
from rl.algorithms.rows import TrainingRow
from rl.algorithms.sample_buffer import SampleBuffer
from rl.data.order import ShuffledOrder
from rl.data.records import (
    Answer,
    Group,
    Problem,
    SamplingRequest,
    Score,
    ScoredGroup,
    UpdateReport,
)
from rl.data.training_problems import ProblemCursor
from rl.run_log.writer import RunLog
from tests.unit.step_samples import Ready, score

ARMS = 3
Table = dict[str, list[float]]


def softmax(logits: Sequence[float]) -> list[float]:
    weights = [math.exp(logit) for logit in logits]
    return [weight / sum(weights) for weight in weights]


QUESTIONS = [Problem(str(i), f"Which arm, {i}?", (str(i % ARMS),)) for i in range(6)]
"""Each with an arm that is right."""


def asked_from(seed: int, start: int = 0) -> ProblemCursor:
    """A cursor through the questions from a position on."""
    order = ShuffledOrder(len(QUESTIONS), seed)
    return ProblemCursor(order, lambda places: [QUESTIONS[i] for i in places], start)


class Learner:
    """REINFORCE on a table of logits, one token an answer."""

    def __init__(self, table: Table, lr: float) -> None:
        self.table = table
        self.taught: list[list[TrainingRow]] = []
        self._lr = lr

    def update(self, rows: Sequence[TrainingRow]) -> UpdateReport:
        self.taught.append(list(rows))
        answers = [(row.problem.id, a) for row in rows for a in row.answers]
        for problem, answer in answers:
            (arm,) = answer.token_ids
            for other, p in enumerate(softmax(self.table[problem])):
                push = answer.advantage * ((other == arm) - p)
                self.table[problem][other] += self._lr * push / len(answers)
        return UpdateReport({"loss": 0.0}, {}, skips=(False,))


def by_gold(problem: Problem, arm: int) -> Score:
    """1 for the right arm, 0 for any other."""
    return score(1.0) if str(arm) == problem.gold[0] else score(0.0, "wrong")


@dataclass
class Engines:
    """Hold a copy of the table from the last publish, and answer from it at once."""

    table: Table
    judge: Callable[[Problem, int], Score] = by_gold
    version: int = 0
    asked: list[tuple[list[str], int]] = field(default_factory=list)
    """Problem ids and seed of each request."""
    slow_s: dict[str, float] = field(default_factory=dict)
    """Seconds that some problems take where they are begun by themselves."""
    begun: "list[Future[tuple[ScoredGroup, float]]]" = field(default_factory=list)
    held: Table = field(init=False)
    asleep: bool = field(init=False)

    def __post_init__(self) -> None:
        self.sync(self.version)

    def make_room(self) -> None:
        """Sleep until `sync`: nobody may ask anything meanwhile."""
        self.asleep = True

    def sync(self, version: int) -> None:
        self.version, self.asleep = version, False
        self.held = {name: list(logits) for name, logits in self.table.items()}

    def submit(
        self, problems: Sequence[Problem], request: SamplingRequest
    ) -> Ready[list[ScoredGroup]]:
        assert not self.asleep
        self.asked.append(([problem.id for problem in problems], request.seed))
        return Ready([self._group(problem, request) for problem in problems])

    def begin(
        self, problems: Sequence[Problem], request: SamplingRequest
    ) -> "list[Future[tuple[ScoredGroup, float]]]":
        """As `submit`, each by itself, and those of slow problems later."""
        groups = self.submit(problems, request).result()
        begun: list[Future[tuple[ScoredGroup, float]]] = []
        for problem, group in zip(problems, groups, strict=True):
            future: Future[tuple[ScoredGroup, float]] = Future()
            timer = Timer(self.slow_s.get(problem.id, 0.0), _answer, (future, group))
            begun.append(future)
            if timer.interval:
                timer.start()
            else:
                _answer(future, group)
        self.begun += begun
        return begun

    def _group(self, problem: Problem, request: SamplingRequest) -> ScoredGroup:
        chances = softmax(self.held[problem.id])
        chance = random.Random(f"{request.seed} {problem.id}")
        arms = chance.choices(range(ARMS), chances, k=request.count)
        answers = tuple(
            Answer((arm,), (math.log(chances[arm]),), str(arm), "stop", self.version)
            for arm in arms
        )
        scores = tuple(self.judge(problem, arm) for arm in arms)
        experts = np.full((2, 1, 1), self.version, np.uint8) if request.experts else None
        return ScoredGroup(Group(problem, (1, 2), answers, prompt_experts=experts), scores)


def _answer(future: "Future[tuple[ScoredGroup, float]]", group: ScoredGroup) -> None:
    if future.set_running_or_notify_cancel():
        future.set_result((group, 0.5))


@dataclass
class Bandit:
    """A run of the loop on the bandit."""

    recipe: GRPORecipe
    folder: Path
    lr: float = 3.0
    first: int = 0
    evaluate: Evaluator | None = None

    def __post_init__(self) -> None:
        asked = self.first * self.recipe.problems_per_step
        self.problems = asked_from(self.recipe.seed, asked)
        table = {problem.id: [0.0] * ARMS for problem in QUESTIONS}
        self.learner = Learner(table, self.lr)
        self.engines = Engines(table, version=self.first)
        self.saved: list[int] = []
        self.best = BestPolicy(self.recipe.checkpoint.keep_best)
        config = self.recipe.sample_buffer
        self.buffer = SampleBuffer(config, self.recipe.seed) if config else None

    def train(self, loop: Callable[[GRPORecipe, GRPOParts, int], None]) -> None:
        resume = self.first or None
        with RunLog(self.folder, self.recipe, resume=resume) as log:
            parts = GRPOParts(
                self.problems,
                self.engines,
                self.learner,
                weights=self.engines,
                evaluate=self.evaluate,
                log=log,
                save=self.saved.append,
                best=self.best,
                token_texts=lambda ids: [str(i) for i in ids],
                buffer=self.buffer,
            )
            loop(self.recipe, parts, self.first)

    def chance_of_right(self) -> float:
        """Mean probability of the right arm."""
        right = [softmax(self.learner.table[p.id])[int(p.gold[0])] for p in QUESTIONS]
        return sum(right) / len(right)
