"""Where rows come from: hub name, file, saved data set, image folder or a built-in, all as Arrow.

Rows stay in a memory-mapped table; images stay the encoded bytes or paths that they were stored as.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import datasets  # pyright: ignore[reportMissingTypeStubs]
from huggingface_hub.constants import HF_HUB_CACHE

from rl.console.errors import UserError
from rl.digits import chats as digit_chats
from rl.digits import problems as digits

BUILDERS = {
    ".parquet": "parquet",
    ".jsonl": "json",
    ".json": "json",
    ".arrow": "arrow",
    ".csv": "csv",
}
BUILT_IN: dict[str, Callable[[str, str], Path]] = {
    **dict.fromkeys(digits.NAMES, digits.dataset_path),
    **dict.fromkeys(digit_chats.NAMES, digit_chats.chats_path),
}
"""Sets that are made here, by their names: (name, split) to a file."""
_hub: Any = datasets  # its own annotations are partial


@dataclass(frozen=True, slots=True)
class Source:
    """Rows of one split."""

    name: str
    """What the recipe calls it."""
    table: Any
    """A `datasets.Dataset` that hands out Arrow."""
    folders: tuple[Path, ...]
    """Resolved folders that image paths may lead into; relative ones start at the first."""

    @property
    def columns(self) -> list[str]:
        return list(self.table.column_names)

    def __len__(self) -> int:
        return len(self.table)

    def select_columns(self, columns: Iterable[str]) -> "Source":
        """The same rows with no more than `columns`, so that others are never read."""
        return replace(self, table=self.table.select_columns(list(columns)))

    def rows(self, start: int, stop: int) -> list[dict[str, Any]]:
        """Rows start <= number < stop, as they are stored."""
        return self._read(self.table[start:stop])

    def select_rows(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """The rows of `numbers`, in that order."""
        return self._read(self.table[list(numbers)])

    def _read(self, arrow: Any) -> list[dict[str, Any]]:
        rows = cast("list[dict[str, Any]]", arrow.to_pylist())
        features = cast("Mapping[str, Any]", self.table.features)
        mixed = {name: kind for name, kind in features.items() if _holds_json(kind)}
        return [
            row | {name: _parsed(row[name], kind) for name, kind in mixed.items()} for row in rows
        ]


def open_source(name: str, split: str) -> Source:
    """The rows that `name` and `split` stand for: a built-in, a path, or else a hub name.

    `name:subset` picks a subset of a hub data set.

    Raises:
        ValueError: there is no such thing, it has no such split, or it cannot be read.
    """
    if name in BUILT_IN:
        return _from_file(name, BUILT_IN[name](name, split.split("[")[0]), split)
    path = Path(name).expanduser()
    if path.is_file():
        return _from_file(name, path, split)
    if path.is_dir():
        return _from_folder(name, path, split)
    if name.startswith((".", "/", "~")) or path.suffix in BUILDERS or name.count("/") > 1:
        raise UserError(
            f"data.source {name!r} does not exist: there is no file or folder {path.absolute()}; "
            "correct the path"
        )
    hub_name, _, subset = name.partition(":")
    try:
        table = _load(name, split, hub_name, {"name": subset or None})
    except ValueError as error:
        raise UserError(f"{error}; nor is there a file or folder {path.absolute()}") from error
    caches = (_hub.config.HF_DATASETS_CACHE, HF_HUB_CACHE)
    return _source(name, table, *(Path(cache) for cache in caches))


def _from_file(name: str, path: Path, split: str) -> Source:
    """One file is one split, whatever that is called in the recipe."""
    builder = BUILDERS.get(path.suffix)
    if builder is None:
        raise UserError(
            f"data.source {name!r} ends in {path.suffix!r}; convert it to one of "
            f"{', '.join(BUILDERS)}"
        )
    split_name = split.split("[")[0]
    table = _load(name, split, builder, {"data_files": {split_name: str(path)}})
    return _source(name, table, path.parent)


def _from_folder(name: str, folder: Path, split: str) -> Source:
    if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
        return _from_saved(name, folder, split)
    split_name = split.split("[")[0]
    for below in (folder / split_name, folder):
        for metadata in sorted(below.glob("metadata.*")):
            if metadata.suffix in BUILDERS:
                source = _from_file(name, metadata, split)
                return _source(name, _with_image_column(source.table), below)
    return _source(name, _load(name, split, str(folder), {}), folder)


def _from_saved(name: str, folder: Path, split: str) -> Source:
    saved = _hub.load_from_disk(str(folder))
    if isinstance(saved, Mapping):
        splits = cast("Mapping[str, Any]", saved)
        if split not in splits:
            raise UserError(
                f"data.source {name!r} has no split {split!r}; set data.split to one of "
                f"{', '.join(splits)}"
            )
        saved = splits[split]
    return _source(name, saved, folder)


def _with_image_column(table: Any) -> Any:
    """Name the columns of an image folder's metadata as `datasets` does: file_name -> image."""
    renamed = {"file_name": "image", "file_names": "images"}
    for column in table.column_names:
        for ending in ("_file_names", "_file_name"):
            if column.endswith(ending):
                renamed[column] = column.removesuffix(ending)
    present = {old: new for old, new in renamed.items() if old in table.column_names}
    return table.rename_columns(present)


def _load(name: str, split: str, path: str, options: dict[str, Any]) -> Any:
    try:
        return _hub.load_dataset(path, split=split, **options)
    except (OSError, ValueError, _hub.exceptions.DatasetsError) as error:
        reason = str(error.__cause__ or error).strip() or type(error).__name__
        raise UserError(
            f"data.source {name!r} with data.split {split!r} cannot be read: {reason}"
        ) from error


def _holds_json(kind: Any) -> bool:
    """Whether values of several types stand in one place, which Arrow only has as JSON texts."""
    if isinstance(kind, dict):
        return any(_holds_json(each) for each in cast("dict[str, Any]", kind).values())
    inner = getattr(kind, "feature", None)
    return isinstance(kind, _hub.Json) or (inner is not None and _holds_json(inner))


def _parsed(value: Any, kind: Any) -> Any:
    if value is None:
        return None
    if isinstance(kind, _hub.Json):
        return json.loads(value)
    if isinstance(kind, dict):
        kinds = cast("dict[str, Any]", kind)
        return {name: _parsed(each, kinds[name]) for name, each in value.items()}
    inner = getattr(kind, "feature", None)
    return value if inner is None else [_parsed(each, inner) for each in value]


def _source(name: str, table: Any, *folders: Path) -> Source:
    resolved = tuple(folder.expanduser().resolve() for folder in folders)
    return Source(name, table.with_format("arrow"), resolved)
