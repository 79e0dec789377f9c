"""The answers of an evaluation on disk: a file of JSON lines for each benchmark."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from rl.console.errors import UserError
from rl.run_log.benchmark_figures import ScoredAnswer
from rl.storage.jsonl import JsonlWriter, filter_lines, read_lines


def answers_folder(run: Path) -> Path:
    """Where a run keeps its answers."""
    return run / "answers"


def answers_file(run: Path, benchmark: str) -> Path:
    """Where a run keeps its answers to a benchmark."""
    return answers_folder(run) / f"{benchmark}.jsonl"


def read_answers(path: Path) -> list[ScoredAnswer]:
    """The answers in `path`, none if there is no such file.

    Raises:
        UserError: a line is that of another file.
    """
    try:
        return [ScoredAnswer.from_line(line) for line in read_lines(path)]
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{path} holds a line that is no answer of an evaluation: {error!r}"
        ) from None


@contextmanager
def answers_writer(path: Path) -> Generator[JsonlWriter]:
    """A writer behind the answers in `path`; a last line that a kill tore is taken off first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    filter_lines(path, lambda line: True)
    writer = JsonlWriter(path)
    try:
        yield writer
    finally:
        writer.close()
