"""The processes behind actors, for tests that kill them."""

import os
from typing import Any

import psutil
import ray


def pid_of(handle: Any) -> int:
    """The process of an actor."""
    return ray.get(handle.__ray_call__.remote(lambda _: os.getpid()))


def engine_core_of(pid: int) -> psutil.Process:
    """vLLM's engine process, the rollout actor's largest child."""
    children = psutil.Process(pid).children(recursive=True)
    return max(children, key=lambda child: child.memory_info().rss)
