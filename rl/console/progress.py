"""What a person sees of a run: one shared console, and phases that never fall silent.

On a terminal a phase is a moving bar. Elsewhere, as in the log of a cluster job, it is a plain line
every few seconds, so that work that hangs and work that is slow can be told apart.
"""

import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

CONSOLE = Console(highlight=False, soft_wrap=True, markup=False)
"""All output goes through here: lines printed elsewhere would tear the bars. Brackets are text,
as in the names of folders; a line with styles asks for them."""

LINE_EVERY_S = 5.0
SILENT_S = 60.0

T = TypeVar("T")


def wait_for(future: "Future[T]", what: Callable[[], str], *, silent_s: float = SILENT_S) -> T:
    """The future's result; until it comes, lines say what is waited for and since when.

    The first line comes after `silent_s` seconds, each further one after twice the time.
    """
    began = time.monotonic()
    while True:
        try:
            return future.result(timeout=silent_s)
        except TimeoutError:
            if future.done():  # just now, or the error is the work's own
                return future.result()
        waited_s = time.monotonic() - began
        CONSOLE.print(f"waiting for {what()} for {waited_s:.0f} s")
        silent_s = waited_s


class Phase:
    """How far a piece of work is; may be told from several threads."""

    def __init__(self, title: str, total: int | None) -> None:
        self.title = title
        self.total = total
        self.done = 0
        self.note = ""
        self.on_change: Callable[[], object] = lambda: None
        self._started = time.monotonic()
        self._lock = threading.Lock()

    def advance(self, count: int = 1, note: str | None = None) -> None:
        """`count` more are done; `note` stays beside the count until the next one."""
        with self._lock:
            self.done += count
            if note is not None:
                self.note = note
        self.on_change()

    def line(self) -> str:
        """Where the work stands, as one line of text."""
        seconds = time.monotonic() - self._started
        count = f"{self.done:,}" if self.total is None else f"{self.done:,} of {self.total:,}"
        parts = [f"{self.title}:"] + [f"{count},"] * bool(self.done or self.total)
        parts.append(f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s")
        if self.note:
            parts.append(f"({self.note})")
        return " ".join(parts)


@contextmanager
def phase(
    title: str, total: int | None = None, *, line_every_s: float = LINE_EVERY_S
) -> Generator[Phase]:
    """Show the progress of the work done inside; `total` None: only that it goes on.

    One line stays when it ends, also where it ends by an exception. Phases may be nested.
    """
    work = Phase(title, total)
    shown = _bar(work) if CONSOLE.is_terminal else _lines(work, line_every_s)
    ended = "stopped"
    try:
        with shown:
            yield work
        ended = ""
    finally:
        CONSOLE.print(f"{work.line()} {ended}".rstrip())


@contextmanager
def _bar(work: Phase) -> Generator[None]:
    counts = [BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()] if work.total else []
    title = TextColumn("{task.description}", markup=False)
    note = TextColumn("{task.fields[note]}", markup=False)
    columns = (SpinnerColumn(), title, *counts, TimeElapsedColumn(), note)
    with Progress(*columns, console=CONSOLE, transient=True) as progress:
        task = progress.add_task(work.title, total=work.total, note="")
        work.on_change = lambda: progress.update(task, completed=work.done, note=work.note)
        yield


@contextmanager
def _lines(work: Phase, every_s: float) -> Generator[None]:
    """A line every `every_s` seconds, from a thread, since the work itself may be one long wait."""
    over = threading.Event()

    def tell() -> None:
        while not over.wait(every_s):
            CONSOLE.print(f"{work.line()} ...")

    teller = threading.Thread(target=tell, name=f"phase {work.title}", daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()
