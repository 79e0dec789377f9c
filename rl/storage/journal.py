"""Finished rows of a long pass over data, in files by row number, from which a run goes on."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rl.storage.jsonl import JsonlWriter, filter_lines, read_lines


class Journal:
    """One line a finished row, whichever finishes first; `rows_per_shard` rows share a file."""

    def __init__(self, folder: Path, rows_per_shard: int) -> None:
        """Take up what an earlier process has written to `folder`."""
        self._folder = folder
        self._rows = rows_per_shard
        self._writers: dict[int, JsonlWriter] = {}
        self._counts: dict[int, int] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self.done: set[int] = set()
        """Numbers of the rows that are finished."""
        self.done.update(index for index, _ in self.lines())
        for index in self.done:
            self._count(index)

    def write(self, index: int, line: Mapping[str, Any]) -> None:
        """Row `index` is finished, and `line` is what is known of it."""
        shard = index // self._rows
        if shard not in self._writers:
            path = self._path(shard)
            filter_lines(path, lambda line: True)  # takes off a last line that a kill tore
            self._writers[shard] = JsonlWriter(path)
        self._writers[shard].write({"index": index, **line})
        self.done.add(index)
        if self._count(index) == self._rows:
            self._writers.pop(shard).close()

    def read(self, shard: int) -> dict[int, dict[str, Any]]:
        """The finished rows `shard * rows_per_shard` and on, by their numbers."""
        return {line["index"]: line for line in read_lines(self._path(shard))}

    def lines(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Each finished row's number and line, file by file."""
        for path in sorted(self._folder.glob("*.jsonl")):
            for line in read_lines(path):
                yield line["index"], line

    def close(self) -> None:
        """Close the files."""
        for writer in self._writers.values():
            writer.close()

    def _count(self, index: int) -> int:
        shard = index // self._rows
        self._counts[shard] = self._counts.get(shard, 0) + 1
        return self._counts[shard]

    def _path(self, shard: int) -> Path:
        return self._folder / f"{shard:05d}.jsonl"
