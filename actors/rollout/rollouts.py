"""All rollout engines, reward workers and the reference policy, seen from the driver.

A problem's way: sampled as a group by one engine, then scored while other groups are still being
written, and read by the reference policy at the same time.
"""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import islice
from queue import Queue
from typing import Any, Generic, TypeVar

import ray
from ray.exceptions import RayActorError

from actors.cluster.crash_report import crash_report
from actors.cluster.driver_loop import DriverLoop
from actors.cluster.object_refs import ProblemRefs, SharedBatches
from actors.cluster.pool import ActorPool
from actors.rollout.elastic import keep_filled
from actors.rollout.requests import LongestFirst, problem_seed, requests_told_apart
from models.policy.features import KeptEmbeddings
from rewards.completion import completion_of
from rl.algorithms.rows import TrainingAnswer, TrainingRow
from rl.console.progress import wait_for
from rl.data.records import Group, Problem, SamplingRequest, ScoredGroup, TeacherTokens
from rl.run_log.timing import BusyTime

G = TypeVar("G", Group, ScoredGroup)


class EngineDidNotStart(RuntimeError):
    """An engine died before it could answer anything; another would do the same."""


class GroupOverdue(RuntimeError):
    """A problem's answers took longer than the recipe allows."""


class PendingRollouts(Generic[G]):
    """Groups on their way, in the order of their problems."""

    def __init__(
        self, future: "Future[tuple[list[G], float]]", total: int, open_places: set[int]
    ) -> None:
        """The future's groups come with their share of the engines' seconds."""
        self._future = future
        self._total = total
        self._open = open_places
        self.seconds = 0.0

    @property
    def open(self) -> int:
        """Groups that have not come yet."""
        return len(self._open)

    def result(self) -> list[G]:
        """Wait for all of them."""
        groups, self.seconds = wait_for(
            self._future, lambda: f"{self.open} of {self._total} groups"
        )
        return groups


class Rollouts:
    """Asks problems. Called from the main thread."""

    def __init__(
        self,
        loop: DriverLoop,
        pools: "RolloutPools",
        *,
        refs: ProblemRefs,
        timeout_s: float,
    ) -> None:
        """`timeout_s`: what a problem may take from being asked to the last of its scores."""
        self._loop = loop
        self._pools = pools
        self._refs = refs
        self._timeout_s = timeout_s
        self._time = BusyTime()
        self._longest_first = LongestFirst()
        self._filling = False
        self.kept: KeptEmbeddings | None = None
        """Where engines may find embeddings of images; None: they are given pixels."""

    def submit(
        self, problems: Sequence[Problem], request: SamplingRequest | Sequence[SamplingRequest]
    ) -> PendingRollouts[ScoredGroup]:
        """Groups of scored answers, in the problems' order; returns at once.

        `request`: of all problems, or one for each.
        """
        return self._begin(problems, request, self._measured)

    def begin(
        self, problems: Sequence[Problem], request: SamplingRequest
    ) -> "list[Future[tuple[ScoredGroup, float]]]":
        """Each problem's group by itself, with its share of the engines' seconds; returns at once.
        One that is cancelled is written no further."""
        under_way = set(range(len(problems)))

        async def one(place: int, own: SamplingRequest) -> tuple[ScoredGroup, float]:
            with self._time.share() as charged:
                try:
                    problem = problems[place]
                    scored = await self._in_time(problem, own, self._measured, under_way.__len__)
                    return scored, charged()
                finally:
                    under_way.discard(place)

        requests = requests_told_apart(problems, request)
        begun: dict[int, Future[tuple[ScoredGroup, float]]] = {}
        for place in self._longest_first.places(problems):
            begun[place] = self._loop.start(one(place, requests[place]))
        return [begun[place] for place in range(len(problems))]

    def sample(self, problems: Sequence[Problem], request: SamplingRequest) -> list[Group]:
        """Groups without scores, for checks."""
        return self._begin(problems, request, self._group).result()

    def stream(
        self, asked: Iterable[tuple[Problem, SamplingRequest]], *, at_a_time: int
    ) -> Iterator[tuple[int, ScoredGroup]]:
        """Each scored group with its place in `asked`, whichever is finished first.

        `asked` is read as room comes free: `at_a_time` problems are under way.
        """
        finished: Queue[tuple[int, Future[ScoredGroup]]] = Queue()
        waiting = enumerate(asked)
        under_way: set[int] = set()
        while True:
            for place, (problem, request) in islice(waiting, at_a_time - len(under_way)):
                under_way.add(place)
                scored = self._in_time(problem, request, self._scored, under_way.__len__)
                future = self._loop.start(scored)
                future.add_done_callback(partial(_put, finished, place))
            if not under_way:
                return
            place, future = finished.get()
            under_way.discard(place)
            yield place, future.result()

    def wait_ready(self) -> None:
        """Wait until every engine answers; from then on actors that die or hang are replaced.

        Raises:
            EngineDidNotStart: with the last words of its log.
        """
        wait_for(self._loop.start(self._ready()), lambda: "engines to start")
        for pool in self._pools.every():
            self._loop.start(pool.watch())
        if self._pools.most_engines is not None and not self._filling:
            self._filling = True
            self._loop.start(keep_filled(self._pools.engines, self._pools.most_engines))

    async def _ready(self) -> None:
        await asyncio.gather(*[_started(engine) for engine in self._pools.engines.handles])

    def _begin(
        self,
        problems: Sequence[Problem],
        request: SamplingRequest | Sequence[SamplingRequest],
        answer: Callable[[Problem, SamplingRequest], Awaitable[G]],
    ) -> PendingRollouts[G]:
        shared = isinstance(request, SamplingRequest)
        requests = requests_told_apart(problems, request) if shared else request
        places = set(range(len(problems)))

        async def one(place: int, problem: Problem, own: SamplingRequest) -> G:
            try:
                return await self._in_time(problem, own, answer, lambda: len(places))
            finally:
                places.discard(place)

        async def every() -> tuple[list[G], float]:
            with self._time.share() as charged:
                order = self._longest_first.places(problems)
                groups = await asyncio.gather(*[one(i, problems[i], requests[i]) for i in order])
                in_place = dict(zip(order, groups, strict=True))
                return [in_place[i] for i in range(len(problems))], charged()

        return PendingRollouts(self._loop.start(every()), len(problems), places)

    async def _in_time(
        self,
        problem: Problem,
        request: SamplingRequest,
        answer: Callable[[Problem, SamplingRequest], Awaitable[G]],
        open_groups: Callable[[], int],
    ) -> G:
        try:
            return await asyncio.wait_for(answer(problem, request), self._timeout_s)
        except TimeoutError:
            raise GroupOverdue(
                f"problem {problem.id!r} had no scored answers after rollout.timeout_s="
                f"{self._timeout_s:g} s, and {open_groups()} groups are open; raise it if answers "
                "need longer, else look into the engines' logs"
            ) from None

    async def _group(self, problem: Problem, request: SamplingRequest) -> Group:
        ref = self._refs.put(problem)
        own = dataclasses.replace(request, seed=problem_seed(request.seed, problem.id))
        kept = (self.kept,) if self.kept else ()

        async def answered(worker: Any) -> Group:
            answering = worker.sample.remote(ref, own, *kept)
            try:
                return await answering
            except asyncio.CancelledError:
                ray.cancel(answering)  # else the engine would write answers that nobody wants
                raise

        group = await self._pools.engines.run(answered)
        return dataclasses.replace(group, problem=problem)

    async def _measured(self, problem: Problem, request: SamplingRequest) -> ScoredGroup:
        """Scored, and the answers' length noted for the next time."""
        scored = await self._scored(problem, request)
        self._longest_first.note(scored.group)
        return scored

    async def _scored(self, problem: Problem, request: SamplingRequest) -> ScoredGroup:
        group = await self._group(problem, request)
        text = problem.without_images()
        completions = [completion_of(answer, request.max_new_tokens) for answer in group.answers]
        scoring = self._pools.rewards.run(lambda w: w.score.remote(text, completions))
        scores, reference, teacher = await asyncio.gather(
            scoring, self._reference(group), self._teacher(group)
        )
        return ScoredGroup(group, tuple(scores), reference, teacher)

    async def _reference(self, group: Group) -> tuple[tuple[float, ...], ...] | None:
        if self._pools.reference is None:
            return None
        share = self._to_read(group)
        return await self._pools.reference.run(lambda w: w.logprobs.remote(share))

    async def _teacher(self, group: Group) -> tuple[TeacherTokens, ...] | None:
        teacher = self._pools.teacher
        if teacher is None:
            return None
        share = self._to_read(group)
        return await teacher.pool.run(
            lambda w: w.tokens.remote(share, teacher.context, teacher.top_k)
        )

    def _to_read(self, group: Group) -> SharedBatches:
        """The group as one row for a frozen policy."""
        answers = tuple(TrainingAnswer(i, a.token_ids) for i, a in enumerate(group.answers))
        return self._refs.share([(TrainingRow(group.problem, group.prompt_ids, answers),)])


def _put(finished: "Queue[tuple[int, Future[G]]]", place: int, future: "Future[G]") -> None:
    finished.put((place, future))


async def _started(engine: Any) -> None:
    try:
        await engine.wait_ready.remote()
    except RayActorError as error:
        raise EngineDidNotStart(f"a rollout engine did not start. {crash_report(error)}") from error


@dataclasses.dataclass
class RolloutPools:
    """The actors behind a rollout."""

    engines: ActorPool
    rewards: ActorPool
    reference: ActorPool | None = None
    teacher: "Teacher | None" = None
    most_engines: int | None = None
    """Engines that are added as nodes join; None: those that are there from the start."""

    def every(self) -> list[ActorPool]:
        """Those that there are."""
        teacher = self.teacher.pool if self.teacher else None
        pools = (self.engines, self.rewards, self.reference, teacher)
        return [pool for pool in pools if pool is not None]

    def kill(self) -> None:
        """End all of them."""
        for pool in self.every():
            for handle in pool.handles:
                ray.kill(handle)


@dataclasses.dataclass(frozen=True)
class Teacher:
    """The actors of a teacher, and what they are asked with each group."""

    pool: ActorPool
    context: str | None
    """The recipe's teacher.context."""
    top_k: int | None
    """The recipe's loss.distill.top_k."""
