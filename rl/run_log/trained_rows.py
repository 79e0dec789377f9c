"""Which rows each step of a supervised run has learned from: the proof that none was lost."""

from collections.abc import Sequence
from pathlib import Path

from rl.storage.jsonl import JsonlWriter, filter_lines

FILE = "trained_rows.jsonl"
_EARLIER_FILE = "seen.jsonl"


class TrainedRowsLog:
    """Writes trained_rows.jsonl: for each step, the rows of the data that ranks trained on."""

    def __init__(self, folder: Path, first: int) -> None:
        """What an interrupted run wrote of step `first` and later is cut, since it comes again."""
        earlier = folder / _EARLIER_FILE
        if earlier.is_file() and not (folder / FILE).exists():
            earlier.rename(folder / FILE)
        filter_lines(folder / FILE, lambda line: line["step"] < first)
        self._lines = JsonlWriter(folder / FILE)

    def write(self, step: int, rows: Sequence[int]) -> None:
        """Rows of `step`, in the order of the cursor."""
        self._lines.write({"step": step, "rows": list(rows)})

    def close(self) -> None:
        """Close the file."""
        self._lines.close()
