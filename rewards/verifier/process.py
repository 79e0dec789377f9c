"""What runs inside a verifier process. Imports no torch, Ray or vLLM, and starts no thread but one.

Each task runs under kernel timers whose default action ends the process: no Python handler has to
run, so a loop inside C code cannot outlive them, nor can a process whose parent is dead. One counts
the process's own CPU time, so that a busy machine turns no honest answer into a timeout; the other
is a clock, for what only waits.
"""

import importlib
import multiprocessing
import os
import resource
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import connection
from typing import Any

from configs.schema.reward import RewardConfig
from rewards.functions.custom import CustomTask, run_custom
from rewards.math.comparison import MathComparison
from rl.data.records import Verdict

Task = MathComparison | CustomTask

NO_PHASE, GOLD, ANSWER = 0.0, 1.0, 2.0
STARVED = 4.0
"""A verifier short of CPU gets this many times its deadline by the clock."""
SLOT = 3
"""Numbers in a slot of the progress board: task in hand, phase, and when it was begun (seconds of
the monotonic clock, which is one for all processes)."""


@dataclass(slots=True)
class _State:
    """What the initialiser leaves for the tasks of this process."""

    config: RewardConfig
    board: Any


_state: list[_State] = []


def initialise(config: RewardConfig, board: Any) -> None:
    """Make this process ready: import what verifying needs, and bound its life and memory."""
    importlib.import_module(
        "rewards.verifier.preload"
    )  # already there in the process this was forked from
    _state[:] = [_State(config, board)]
    for ending in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(ending, signal.SIG_DFL)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    with open("/proc/self/statm", encoding="ascii") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    limit = used + config.memory_mib * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def run_tasks(tasks: Sequence[Task], slot: int) -> list[tuple[Verdict, float]]:
    """Verdicts on `tasks`, each with the seconds it took; progress is noted on the board."""
    (state,) = _state
    board, base = state.board, slot * SLOT
    done: list[tuple[Verdict, float]] = []
    for index, task in enumerate(tasks):
        began = time.monotonic()
        board[base : base + SLOT] = [float(index), NO_PHASE, began]
        signal.setitimer(signal.ITIMER_PROF, state.config.deadline_s)
        signal.setitimer(signal.ITIMER_REAL, clock_limit_s(task, state.config.deadline_s))
        try:
            verdict = _verdict(task, state, base)
        except MemoryError:
            verdict = _out_of_memory(board[base + 1] == GOLD, state.config)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.setitimer(signal.ITIMER_PROF, 0.0)
        done.append((verdict, time.monotonic() - began))
    return done


def clock_limit_s(task: Task, deadline_s: float) -> float:
    """Seconds by the clock after which a task is killed however little CPU it had."""
    return deadline_s if isinstance(task, CustomTask) else STARVED * deadline_s


def _verdict(task: Task, state: _State, base: int) -> Verdict:
    if isinstance(task, CustomTask):
        return run_custom(task)
    from rewards.math.equality import Phase, compare

    def entering(phase: Phase) -> None:
        state.board[base + 1] = GOLD if phase == "gold" else ANSWER

    return compare(task, state.config.math, entering)


def _out_of_memory(reading_gold: bool, config: RewardConfig) -> Verdict:
    detail = f"needs more than {config.memory_mib} MiB to verify"
    if reading_gold:
        return Verdict(0.0, "bad_gold", f"gold answer {detail}", gold_side=True)
    return Verdict(0.0, "unparsable", detail)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
