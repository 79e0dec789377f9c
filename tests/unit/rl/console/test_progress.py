"""Long work is never silent, on a terminal or in a log file."""

import re
from concurrent.futures import Future
from io import StringIO

import pytest
from rich.console import Console

from rl.console import progress as console
from rl.console.progress import phase, wait_for
from tests.waiting import wait_until


def output(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> StringIO:
    file = StringIO()
    shown = Console(file=file, force_terminal=terminal, width=100, color_system=None, markup=False)
    monkeypatch.setattr(console, "CONSOLE", shown)
    return file


def test_in_a_log_a_wait_without_news_still_writes_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    file = output(monkeypatch, terminal=False)
    with phase("starting engines", line_every_s=0.02):
        wait_until(lambda: file.getvalue().count("\n") >= 3, 60.0)
    lines = file.getvalue().splitlines()
    assert len(lines) >= 3
    assert re.fullmatch(r"starting engines: [\d.]+ s \.\.\.", lines[0])
    assert re.fullmatch(r"starting engines: [\d.]+ s", lines[-1])


def test_in_a_log_short_work_is_one_line_with_its_count_and_note(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = output(monkeypatch, terminal=False)
    with phase("checking rows", 2000) as work:
        work.advance(1500)
        work.advance(500, note="3 rejected")
    told = r"checking rows: 2,000 of 2,000, \d\.\d s \(3 rejected\)\n"
    assert re.fullmatch(told, file.getvalue())


def test_work_that_fails_says_how_far_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    file = output(monkeypatch, terminal=False)
    with pytest.raises(RuntimeError), phase("warming up", 10) as work:
        work.advance(4)
        raise RuntimeError
    assert re.fullmatch(r"warming up: 4 of 10, [\d.]+ s stopped\n", file.getvalue())


def test_on_a_terminal_nested_phases_draw_bars_and_leave_a_line_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = output(monkeypatch, terminal=True)
    with phase("outer", 2) as outer:
        outer.advance(note="half way")
        with phase("[inner]"):
            pass
        outer.advance()
    text = file.getvalue()
    assert "1/2" in text
    assert "half way" in text
    assert re.search(r"\[inner\]: [\d.]+ s", text)
    assert re.search(r"outer: 2 of 2, [\d.]+ s \(half way\)", text)


def test_a_result_that_is_there_is_handed_on_without_a_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = output(monkeypatch, terminal=False)
    future: Future[int] = Future()
    future.set_result(7)
    assert wait_for(future, lambda: "nothing") == 7
    assert not file.getvalue()


def test_a_long_wait_says_what_it_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    file = output(monkeypatch, terminal=False)
    future: Future[str] = Future()
    still_open = [3, 2, 1]

    def describe() -> str:
        left = still_open.pop(0)
        if not still_open:
            future.set_result("done")
        return f"{left} of 3 groups"

    assert wait_for(future, describe, silent_s=0.05) == "done"
    lines = file.getvalue().splitlines()
    assert [line[:29] for line in lines] == [f"waiting for {n} of 3 groups for" for n in (3, 2, 1)]


def test_a_timeout_of_the_work_itself_is_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    file = output(monkeypatch, terminal=False)
    future: Future[int] = Future()
    future.set_exception(TimeoutError("the work's own"))
    with pytest.raises(TimeoutError, match="the work's own"):
        wait_for(future, lambda: "nothing")
    assert not file.getvalue()
