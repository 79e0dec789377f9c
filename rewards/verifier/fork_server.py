"""How verifier processes are started: forked from a server that has sympy imported and warm.

A replacement is ready in tens of milliseconds, and is never forked from a process that has Ray's or
torch's threads in it. Nor do verifiers import the caller's `__main__`, as multiprocessing has its
children do, and with it everything that a training script imports.
"""

import os
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from multiprocessing import forkserver, popen_forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from types import ModuleType
from typing import Any

_ROOT = str(Path(__file__).resolve().parents[2])
_lock = threading.Lock()


class _Popen(popen_forkserver.Popen):
    """A fork-server child that does not import the caller's main module."""

    def _launch(self, process_obj: Any) -> None:
        with _lock, _main_hidden():
            super()._launch(process_obj)  # type: ignore[misc]


class _Process(ForkServerProcess):
    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        return _Popen(process_obj)


class VerifierContext(ForkServerContext):
    """The multiprocessing context of verifier processes."""

    Process = _Process  # type: ignore[assignment]


def start_server() -> VerifierContext:
    """Start the fork server if it does not run yet; returns the context that forks from it."""
    path = os.pathsep.join(filter(None, [_ROOT, os.environ.get("PYTHONPATH")]))
    with _lock, _environment(PYTHONPATH=path, OMP_NUM_THREADS="1"):
        forkserver.set_forkserver_preload(["rewards.verifier.preload"])
        forkserver.ensure_running()
    return VerifierContext()


@contextmanager
def _main_hidden() -> Generator[None]:
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _environment(**values: str) -> Generator[None]:
    """Set environment variables, for the server to inherit, and put the caller's own back."""
    before = {name: os.environ[name] for name in values if name in os.environ}
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
