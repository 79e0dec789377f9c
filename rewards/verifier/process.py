"""What runs inside a verifier process. Imports no torch, Ray or vLLM, and starts one thread only.

Each task runs under two kernel timers whose default action ends the process: no Python handler has
to run, so they stop a loop inside C code too. One counts the process's own CPU time, so that a busy
machine turns no honest answer into a timeout; the other counts time by the clock, for tasks that
only wait.
"""

import importlib
import multiprocessing
import os
import resource
import signal
import threading
import time
from collections.abc import Sequence
from typing import Any

from configs.schema.reward import RewardConfig
from rewards.functions.custom import CustomTask, run_custom
from rewards.math.arithmetic import EquationCheck, check_equations
from rewards.math.comparison import MathComparison
from rl.data.records import Verdict

Task = MathComparison | EquationCheck | CustomTask

NO_PHASE, GOLD, ANSWER = 0.0, 1.0, 2.0
STARVED = 4.0
"""A verification may take this many times its deadline by the clock, as it may wait for a CPU."""
SLOT = 3
"""Numbers in a slot of the progress board: index of the task in hand (-1: none yet), its phase, and
its start (seconds of the monotonic clock, which all processes share)."""

_state: list[tuple[RewardConfig, Any]] = []
"""This process's recipe and progress board, set by `initialise`."""


def initialise(config: RewardConfig, board: Any) -> None:
    """Make this process ready: import what verifying needs, and bound its life and memory.

    `board` is a shared array of float64, `SLOT` numbers per chunk of tasks under way.
    """
    importlib.import_module("rewards.verifier.preload")  # the fork server has it imported already
    _state[:] = [(config, board)]
    for ending in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(ending, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with open("/proc/self/statm", encoding="ascii") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    limit = used + config.memory_mib * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def run_tasks(tasks: Sequence[Task], slot: int) -> list[tuple[Verdict, float]]:
    """Verdicts on `tasks`, each with the seconds it took; notes progress in the board's `slot`."""
    from rewards.math.equality import Phase, compare  # sympy, which the pool does without

    ((config, board),) = _state
    base = slot * SLOT

    def entering(phase: Phase) -> None:
        board[base + 1] = GOLD if phase == "gold" else ANSWER

    done: list[tuple[Verdict, float]] = []
    for index, task in enumerate(tasks):
        began = time.monotonic()
        board[base : base + SLOT] = [float(index), NO_PHASE, began]
        signal.setitimer(signal.ITIMER_PROF, config.deadline_s)
        signal.setitimer(signal.ITIMER_REAL, clock_limit_s(task, config.deadline_s))
        try:
            if isinstance(task, CustomTask):
                verdict = run_custom(task)
            elif isinstance(task, EquationCheck):
                verdict = check_equations(task, config.math)
            else:
                verdict = compare(task, config.math, entering)
        except MemoryError:
            detail = f"needs more than {config.memory_mib} MiB to verify"
            if board[base + 1] == GOLD:
                verdict = Verdict(0.0, "bad_gold", f"gold answer {detail}", gold_side=True)
            else:
                verdict = Verdict(0.0, "unparsable", detail)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.setitimer(signal.ITIMER_PROF, 0.0)
        done.append((verdict, time.monotonic() - began))
    return done


def clock_limit_s(task: Task, deadline_s: float) -> float:
    """Seconds by the clock after which a task is killed, whatever CPU time it had."""
    return deadline_s if isinstance(task, CustomTask) else STARVED * deadline_s


def _end_with_parent() -> None:
    """End this process when its parent is dead."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
