"""Figures of a reward actor at Ray's Prometheus endpoint."""

import os
from collections.abc import Iterable

from ray.util.metrics import Counter, Gauge, Histogram

from rl.data.records import Score

_BOUNDS_MS = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0]


class RewardMetrics:
    """Counters and gauges of one reward actor, told apart by its process."""

    def __init__(self) -> None:
        self._verdicts = Counter(
            "reward_verdicts", "Verdicts by reward and cause.", ("worker", "reward", "cause")
        )
        self._score = Histogram(
            "reward_score_ms", "From an answer's arrival to its score, ms.", _BOUNDS_MS, ("worker",)
        )
        self._depth = Gauge("reward_queue_depth", "Verifications not done yet.", ("worker",))
        self._kills = Counter("reward_kills", "Verifiers killed at the deadline.", ("worker",))
        self._restarts = Counter("reward_restarts", "Verifiers replaced.", ("worker",))
        for metric in (self._verdicts, self._score, self._depth, self._kills, self._restarts):
            metric.set_default_tags({"worker": str(os.getpid())})
        self._kills_told = self._restarts_told = 0

    def scored(self, scores: Iterable[Score], wait_s: float) -> None:
        """Note finished scores; each took `wait_s` seconds."""
        for score in scores:
            for name, verdict in score.verdicts.items():
                self._verdicts.inc(tags={"reward": name, "cause": verdict.cause})
            self._score.observe(max(1e3 * wait_s, 1e-3))

    def pool(self, depth: int, kills: int, restarts: int) -> None:
        """Note the pool's state; `kills` and `restarts` count from its start."""
        self._depth.set(depth)
        if kills > self._kills_told:
            self._kills.inc(kills - self._kills_told)
        if restarts > self._restarts_told:
            self._restarts.inc(restarts - self._restarts_told)
        self._kills_told, self._restarts_told = kills, restarts
