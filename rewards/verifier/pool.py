"""A pool of verifier processes, each killed when a task passes its deadline, and replaced.

Tasks are handed over in chunks of about 10 ms of work, so that pipes cost little and no task waits
long. Of a chunk whose process died, all tasks but the one at fault are run again.
"""

import math
import signal
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pebble import CONSTS, ProcessExpired, ProcessPool

from configs.schema.reward import RewardConfig
from rewards.functions.custom import CustomTask
from rewards.verifier import process
from rewards.verifier.fork_server import start_server
from rewards.verifier.process import Task
from rl.data.records import Verdict

_CHUNK_S = 0.010
_MAX_CHUNK = 32
_CHUNKS_AHEAD = 2
_MAX_TRIES = 3
_DEADLINES = (-signal.SIGALRM, -signal.SIGPROF)
_FORGET = 0.02  # weight of the newest task in the running mean of their times
_LATENCIES_KEPT = 10_000


@dataclass(slots=True)
class _Job:
    task: Task
    future: Future[Verdict]
    submitted: float
    tries: int = 0


@dataclass(slots=True)
class PoolStats:
    """Counts and times since a pool started."""

    kills: int = 0
    """Processes ended at the deadline."""
    restarts: int = 0
    """Processes that ended for any reason and were replaced."""
    verified: int = 0
    """Tasks with a verdict."""
    worst_overrun: float = 0.0
    """Largest delay of a timeout verdict past its time limit, as a share of that limit."""
    turnaround_s: deque[float] = field(default_factory=lambda: deque(maxlen=_LATENCIES_KEPT))
    """Newest times from submission to verdict, s."""
    service_s: deque[float] = field(default_factory=lambda: deque(maxlen=_LATENCIES_KEPT))
    """Newest times in the verifier process, s."""


class VerifierPool:
    """Runs tasks in `config.processes` processes; every task gets a verdict. Thread-safe."""

    def __init__(self, config: RewardConfig) -> None:
        self.stats = PoolStats()
        self._config = config
        self._lock = threading.RLock()
        self._waiting: deque[_Job] = deque()
        self._num_slots = config.processes * _CHUNKS_AHEAD
        self._free = list(range(self._num_slots))
        self._flying: dict[int, list[_Job]] = {}
        self._mean_s = _CHUNK_S / 4
        self._closed = False
        CONSTS.sleep_unit = 0.02  # pebble looks for dead processes this often, s
        CONSTS.term_timeout = 0.1  # and waits this long after SIGTERM before SIGKILL, s
        self._context = start_server()
        self._board: Any = self._context.RawArray("d", self._num_slots * process.SLOT)
        self._pool = self._new_pool()
        assert self._pool.active  # starts the processes now, so that the first task finds them

    def submit(self, task: Task) -> Future[Verdict]:
        """Queue `task`; the future resolves to its verdict and cannot be cancelled."""
        job = _Job(task, Future(), time.monotonic())
        job.future.set_running_or_notify_cancel()  # callers may share it
        with self._lock:
            if self._closed:
                raise RuntimeError("the verifier pool is closed; make a new one")
            self._waiting.append(job)
            self._feed()
        return job.future

    def queue_depth(self) -> int:
        """Tasks without a verdict yet."""
        with self._lock:
            return len(self._waiting) + sum(map(len, self._flying.values()))

    def close(self) -> None:
        """End the processes; tasks without a verdict get a crash."""
        with self._lock:
            self._closed = True
            orphans = [*self._waiting, *(job for jobs in self._flying.values() for job in jobs)]
            self._waiting.clear()
            self._flying.clear()
        self._pool.stop()
        self._pool.join()
        for job in orphans:
            job.future.set_result(Verdict(0.0, "crash", "the verifier pool was closed"))

    def _new_pool(self) -> ProcessPool:
        return ProcessPool(
            max_workers=self._config.processes,
            initializer=process.initialise,
            initargs=(self._config, self._board),
            context=self._context,
        )

    def _feed(self) -> None:
        """Hand waiting jobs over while there are free slots; the lock is held."""
        while self._waiting and self._free and not self._closed:
            jobs = self._next_chunk()
            slot = self._free.pop()
            self._flying[slot] = jobs
            self._board[slot * process.SLOT] = -1.0
            try:
                chunk = self._schedule(jobs, slot)
            except RuntimeError:  # the pool broke
                self._replace_pool()
                chunk = self._schedule(jobs, slot)
            chunk.add_done_callback(partial(self._finished, slot, jobs))

    def _schedule(self, jobs: list[_Job], slot: int) -> Future[Any]:
        tasks = [job.task for job in jobs]
        limits_s = (process.clock_limit_s(task, self._config.deadline_s) for task in tasks)
        timeout = 1.05 * sum(limits_s) + 0.05  # in case that the kernel timers do not fire
        return self._pool.schedule(process.run_tasks, args=(tasks, slot), timeout=timeout)

    def _next_chunk(self) -> list[_Job]:
        """The jobs to run next: a user's reward alone, verifications about 10 ms together."""
        share = math.ceil(len(self._waiting) / self._config.processes)
        size = min(_MAX_CHUNK, share, max(1, int(_CHUNK_S / self._mean_s)))
        jobs = [self._waiting.popleft()]
        while len(jobs) < size and self._waiting:
            if any(isinstance(job.task, CustomTask) for job in (jobs[0], self._waiting[0])):
                break
            jobs.append(self._waiting.popleft())
        return jobs

    def _finished(self, slot: int, jobs: list[_Job], chunk: Future[Any]) -> None:
        """Hand out the verdicts of a chunk that came back, or whose process died."""
        with self._lock:
            if self._flying.pop(slot, None) is None:
                return  # closed meanwhile
            error = chunk.exception()
            if error is not None:
                told = self._died(slot, jobs, error)
            else:
                results = chunk.result()
                told = [(job, verdict) for job, (verdict, _) in zip(jobs, results, strict=True)]
                for _, took_s in results:
                    self.stats.service_s.append(took_s)
                    self._mean_s += _FORGET * (took_s - self._mean_s)
            self._free.append(slot)
            self._feed()
            now = time.monotonic()
            self.stats.verified += len(told)
            self.stats.turnaround_s.extend(now - job.submitted for job, _ in told)
        for job, verdict in told:
            job.future.set_result(verdict)

    def _died(
        self, slot: int, jobs: list[_Job], error: BaseException
    ) -> list[tuple[_Job, Verdict]]:
        """The verdict on the job whose process died; the other jobs of its chunk wait again."""
        index, phase, began = self._board[slot * process.SLOT : (slot + 1) * process.SLOT]
        exitcode = error.exitcode if isinstance(error, ProcessExpired) else None
        told: list[tuple[_Job, Verdict]] = []
        self.stats.restarts += 1
        if index >= 0:
            culprit = jobs.pop(int(index))
            if exitcode in _DEADLINES or isinstance(error, TimeoutError):
                self.stats.kills += 1
                deadline_s = limit_s = self._config.deadline_s
                if exitcode == -signal.SIGALRM:
                    limit_s = process.clock_limit_s(culprit.task, deadline_s)
                overrun = (time.monotonic() - began) / limit_s - 1.0
                self.stats.worst_overrun = max(self.stats.worst_overrun, overrun)
                verdict = _timeout(deadline_s, gold_side=phase == process.GOLD)
            else:
                verdict = Verdict(0.0, "crash", f"the verifier died: {error!r}")
            told.append((culprit, verdict))
        for job in jobs:
            job.tries += index < 0
        lost = [job for job in jobs if job.tries >= _MAX_TRIES]
        told += [(job, Verdict(0.0, "crash", f"no verifier starts: {error!r}")) for job in lost]
        self._waiting.extendleft(reversed([job for job in jobs if job.tries < _MAX_TRIES]))
        return told

    def _replace_pool(self) -> None:
        broken = self._pool
        self._pool = self._new_pool()

        def dispose() -> None:  # elsewhere, since this may run on a thread of the broken pool
            broken.stop()
            broken.join()

        threading.Thread(target=dispose, daemon=True).start()


def _timeout(deadline_s: float, *, gold_side: bool) -> Verdict:
    side = "gold" if gold_side else "answer"
    detail = f"killed at the deadline of {deadline_s:g} s on the {side} side"
    return Verdict(0.0, "timeout", detail, gold_side=gold_side)
