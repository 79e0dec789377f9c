"""Waiting for what a test needs to have happened, however busy the machine is."""

import time
from collections.abc import Callable

import psutil


def wait_until(
    true: Callable[[], bool],
    patience_s: float,
    describe: Callable[[], object] = str,
    every_s: float = 0.05,
) -> None:
    """Look every `every_s`; AssertionError with `describe()` when it never comes true."""
    until = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < until, describe()
        time.sleep(every_s)


def wait_until_dead(pid: int) -> None:
    """Wait until a process has ended; one that its parent has not looked after yet counts."""

    def dead() -> bool:
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    wait_until(dead, 60.0)


def wait_until_busy(processes: list[psutil.Process], seconds: float = 0.2) -> None:
    """Wait until one of `processes` has computed for some time, in its own seconds."""
    before = [process.cpu_times().user for process in processes]

    def busy() -> bool:
        now = [process.cpu_times().user for process in processes]
        return any(b - a >= seconds for a, b in zip(before, now, strict=True))

    wait_until(busy, 60.0)
