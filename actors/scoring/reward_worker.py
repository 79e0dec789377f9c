"""RewardWorker: scores answers in processes that are killed rather than waited for."""

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from actors.cluster.actor_names import NamedActor
from actors.cluster.metrics import Metrics
from configs.schema.reward import RewardConfig
from rewards.completion import Completion, bad_gold
from rewards.functions.custom import CustomTask
from rewards.math.comparison import extract_comparison
from rewards.registry import INLINE, check_names, rule_of
from rewards.verifier.pool import VerifierPool
from rewards.weighting import weighted_score
from rl.console.errors import UserError
from rl.data.records import CAUSES, Problem, Score, Verdict

_VERDICTS_KEPT = 100_000


class RewardWorker(NamedActor):
    """Scores answers; many calls may be under way at once, on one pool of processes.

    A plain class: `ray.remote(RewardWorker)` makes it an actor, tests use it as it stands.
    """

    def __init__(self, config: RewardConfig) -> None:
        check_names(config)
        self._config = config
        self._inline = {name: make(config) for name, make in INLINE.items()}
        self._verifiers = VerifierPool(config)
        self._judge: Callable[[Problem, Completion], Verdict] | None = None
        if config.judge is not None:
            from rewards.judges.openai_judge import Judge

            self._judge = Judge(config.judge, config.thinking).verdict
        self._judge_threads = ThreadPoolExecutor(config.judge.parallel if config.judge else 1)
        self._verdicts: OrderedDict[Hashable, Future[Verdict]] = OrderedDict()
        self._timed_out_golds: dict[tuple[str, ...], Verdict] = {}
        self._causes: Counter[str] = Counter()
        self._metrics = Metrics()
        self._tell_pool()

    async def score(self, problem: Problem, completions: Sequence[Completion]) -> tuple[Score, ...]:
        """One score per completion, in order. Never raises on a completion's text."""
        began = time.monotonic()
        self._tell_pool()
        scores = await asyncio.gather(*(self._score(problem, one) for one in completions))
        for score in scores:
            self._causes.update(verdict.cause for verdict in score.verdicts.values())
            self._metrics.observe("reward_seconds", time.monotonic() - began)
            for name, verdict in score.verdicts.items():
                self._metrics.count("reward_verdicts", 1, reward=name, cause=verdict.cause)
        self._tell_pool()
        return tuple(scores)

    def _tell_pool(self) -> None:
        pool = self._verifiers.stats
        self._metrics.set("reward_queue_depth", self._verifiers.queue_depth())
        self._metrics.set("reward_kills", pool.kills)
        self._metrics.set("reward_restarts", pool.restarts)

    async def _score(self, problem: Problem, completion: Completion) -> Score:
        names = self._config.weights
        verdicts = await asyncio.gather(
            *(self._verdict(name, problem, completion) for name in names)
        )
        return weighted_score(dict(zip(names, verdicts, strict=True)), self._config)

    async def _verdict(self, name: str, problem: Problem, completion: Completion) -> Verdict:
        if name == "judge":
            return await self._ask(problem, completion)
        verdict = await self._rule_verdict(name, problem, completion)
        judge = self._config.judge
        doubted = judge is not None and name in judge.second_opinion_on
        if not doubted or verdict.cause not in ("wrong", "unparsable"):
            return verdict
        opinion = await self._ask(problem, completion)
        return verdict if opinion.cause in ("wrong", "no_answer", "unparsable") else opinion

    async def _rule_verdict(self, name: str, problem: Problem, completion: Completion) -> Verdict:
        try:
            name = rule_of(name, problem)
        except UserError as error:
            return bad_gold(problem, str(error))
        if name in self._inline:
            return self._inline[name](problem, completion)
        if name == "math":
            said = extract_comparison(problem, completion, self._config.math, self._config.thinking)
            if isinstance(said, Verdict):
                return said
            if said.gold in self._timed_out_golds:
                return self._timed_out_golds[said.gold]
            verdict = await self._memoised(said, partial(self._verifiers.submit, said))
            if verdict.cause == "timeout" and verdict.gold_side:
                self._timed_out_golds[said.gold] = verdict
            return verdict
        share = name == self._config.accuracy
        task = CustomTask(self._config.custom[name], problem, completion, share)
        key = (task.where, problem.id, completion)
        return await self._memoised(key, partial(self._verifiers.submit, task))

    async def _ask(self, problem: Problem, completion: Completion) -> Verdict:
        assert self._judge is not None, "the recipe was checked to have a judge section"
        judge = partial(self._judge, problem, completion)
        key = ("judge", problem.id, completion.text)
        return await self._memoised(key, lambda: self._judge_threads.submit(judge))

    async def _memoised(self, key: Hashable, start: Callable[[], Future[Verdict]]) -> Verdict:
        """The verdict that `start` sets going, or the one that it gave for the same key before."""
        future = self._verdicts.get(key)
        if future is None:
            future = self._verdicts[key] = start()
            if len(self._verdicts) > _VERDICTS_KEPT:
                self._verdicts.popitem(last=False)
        verdict = await asyncio.shield(asyncio.wrap_future(future))
        if verdict.cause == "crash":
            self._verdicts.pop(key, None)  # may have been bad luck: the next asks anew
        return verdict

    def stats(self) -> dict[str, int]:
        """Counts since the start: verdicts by cause, tasks verified, processes lost; the queue."""
        pool = self._verifiers.stats
        return {
            **{f"verdicts/{cause}": self._causes[cause] for cause in CAUSES},
            "queue_depth": self._verifiers.queue_depth(),
            "verified": pool.verified,
            "kills": pool.kills,
            "restarts": pool.restarts,
        }

    def close(self) -> None:
        """End the verifier processes and the judge's threads."""
        self._verifiers.close()
        self._judge_threads.shutdown(wait=False, cancel_futures=True)
