"""The processes behind actors, for tests that kill them; and those with a cluster of their own."""

import os
import subprocess
import sys
from typing import Any

import psutil
import ray

from tests.repository import ROOT


def lines_of(module: str, **environment: str) -> list[str]:
    """What a module of tests prints, run in a process that may start a cluster of its own."""
    run = subprocess.run(
        [sys.executable, "-m", module],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return run.stdout.splitlines()


def pid_of(handle: Any) -> int:
    """The process of an actor."""
    return ray.get(handle.__ray_call__.remote(lambda _: os.getpid()))


def engine_core_of(pid: int) -> psutil.Process:
    """vLLM's engine process, the rollout actor's largest child."""
    children = psutil.Process(pid).children(recursive=True)
    return max(children, key=lambda child: child.memory_info().rss)
