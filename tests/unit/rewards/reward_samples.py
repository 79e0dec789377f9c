"""Rewards of a user's own, good and bad, that the tests run in verifier processes."""

import asyncio
import os
import signal
import sys
import time

from rewards.completion import Completion
from rl.data.records import Problem, Verdict


def brevity(problem: Problem, completion: Completion) -> float:
    return 1.0 if completion.num_tokens < 50 else 0.25


async def patient(problem: Problem, completion: Completion) -> Verdict:
    await asyncio.sleep(0.01)
    return Verdict(1.0, "correct", "waited")


def loops_in_c(problem: Problem, completion: Completion) -> float:
    return float(len(str(9 ** (9**9))))


def sleeps(problem: Problem, completion: Completion) -> float:
    time.sleep(3600)
    return 1.0


def switches_the_timer_off(problem: Problem, completion: Completion) -> float:
    signal.alarm(0)
    while True:
        pass


def leaves(problem: Problem, completion: Completion) -> float:
    os._exit(3)


def hoards(problem: Problem, completion: Completion) -> float:
    return float(len(bytearray(8 * 2**30)))


def raises(problem: Problem, completion: Completion) -> float:
    raise KeyError("no such column")


def returns_text(problem: Problem, completion: Completion) -> str:
    return "2.0"


def heavy_modules(problem: Problem, completion: Completion) -> Verdict:
    heavy = {"torch", "ray", "vllm", "transformers", "pytest"} & set(sys.modules)
    return Verdict(1.0, "correct", ",".join(sorted(heavy)))


def process(problem: Problem, completion: Completion) -> Verdict:
    return Verdict(1.0, "correct", str(os.getpid()))
