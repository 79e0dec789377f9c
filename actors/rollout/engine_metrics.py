"""What vLLM tells of its engine, as metrics."""

import time
from typing import Any

from vllm.v1.metrics.loggers import StatLoggerBase

from actors.cluster.metrics import Metrics

_EVERY_S = 0.5
"""An engine tells of each of its passes, hundreds a second where the model is small."""


class EngineMetrics(StatLoggerBase):
    """Requests, cache and tokens of one engine."""

    def __init__(self, vllm_config: Any, engine_index: int = 0) -> None:
        """As vLLM asks for it."""
        self._metrics = Metrics()
        self._told_at = 0.0
        self._written = self._looked_up = self._found = 0
        """Tokens since it was told last: of answers, and of prompts."""

    def record(
        self,
        scheduler_stats: Any,
        iteration_stats: Any,
        mm_cache_stats: Any = None,
        engine_idx: int = 0,
    ) -> None:
        """Note one pass; tell of it where the last was told a while ago, or nothing is left."""
        if iteration_stats is not None:
            self._written += iteration_stats.num_generation_tokens
        if scheduler_stats is None:
            return
        prefix = scheduler_stats.prefix_cache_stats
        self._looked_up += prefix.queries
        self._found += prefix.hits
        running = scheduler_stats.num_running_reqs
        waiting = scheduler_stats.num_waiting_reqs + scheduler_stats.num_skipped_waiting_reqs
        now = time.monotonic()
        if running + waiting and now - self._told_at < _EVERY_S:
            return
        self._told_at = now
        self._metrics.set("rollout_running_requests", running)
        self._metrics.set("rollout_waiting_requests", waiting)
        self._metrics.set("rollout_kv_cache_usage", scheduler_stats.kv_cache_usage)
        self._metrics.count("rollout_tokens", self._written)
        if self._looked_up:
            self._metrics.set("rollout_prefix_hits", self._found / self._looked_up)
        self._written = self._looked_up = self._found = 0

    def log_engine_initialized(self) -> None:
        """Nothing is to be told of it."""
