"""Where rows come from: hub name, file, saved data set, image folder or a built-in, all as Arrow.

Rows stay in a memory-mapped table; images stay the encoded bytes or paths that they were stored as.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import datasets  # pyright: ignore[reportMissingTypeStubs]
import pyarrow.parquet as pq
from huggingface_hub.constants import HF_HUB_CACHE

from rl.console.errors import UserError
from rl.digits import chats as digit_chats
from rl.digits import problems as digits
from rl.tables.column_types import common_feature, holds_json, parsed
from rl.tables.text_files import READERS, arrow_files

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
_hub: Any = datasets  # its own annotations, and those of the next, are partial
_parquet: Any = pq


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

    @property
    def fingerprint(self) -> str:
        """Changes with the files behind the rows, and with the columns."""
        return str(self.table._fingerprint)

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
        mixed = {name: kind for name, kind in features.items() if holds_json(kind)}
        return [
            row | {name: parsed(row[name], kind) for name, kind in mixed.items()} for row in rows
        ]


def open_source(name: str, split: str) -> Source:
    """The rows that `name` and `split` stand for: a built-in, a path, or else a hub name.

    `name:subset` picks a subset of a hub data set.

    Raises:
        ValueError: there is no such thing, it has no such split, or it cannot be read.
    """
    if name in BUILT_IN:
        return _from_file(name, BUILT_IN[name](name, split.split("[")[0]), split)
    check_path(name)
    path = Path(name).expanduser()
    if path.is_file():
        return _from_file(name, path, split)
    if path.is_dir():
        return _from_folder(name, path, split)
    hub_name, _, subset = name.partition(":")
    try:
        table = _load(name, split, hub_name, {"name": subset or None})
    except ValueError as error:
        raise UserError(f"{error}; nor is there a file or folder {path.absolute()}") from error
    caches = (_hub.config.HF_DATASETS_CACHE, HF_HUB_CACHE)
    return _source(name, table, *(Path(cache) for cache in caches))


def check_path(name: str) -> None:
    """Nothing where `name` is a path that is there, or no path; the hub is not asked.

    Raises:
        UserError: it is a path, and nothing lies there.
    """
    path = Path(name).expanduser()
    a_path = name.startswith((".", "/", "~")) or path.suffix in BUILDERS or name.count("/") > 1
    if a_path and not path.exists():
        raise UserError(
            f"data.source {name!r} does not exist: there is no file or folder {path.absolute()}; "
            "correct the path"
        )


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
        builder = _hub.load_dataset_builder(path, **options)
        files = builder.config.data_files
        if builder.name in READERS and files:
            path, options = "arrow", {"data_files": _stored(builder.name, files, split)}
        elif builder.name == "parquet" and files:
            options = options | {"features": _common_types(files)}
        return _hub.load_dataset(path, split=split, **options)
    except UserError as error:
        raise UserError(f"data.source {name!r} cannot be read: {error}") from error
    except (OSError, ValueError, _hub.exceptions.DatasetsError) as error:
        reason = str(error.__cause__ or error).strip() or type(error).__name__
        raise UserError(
            f"data.source {name!r} with data.split {split!r} cannot be read: {reason}"
        ) from error


def _stored(kind: str, files: Mapping[str, Sequence[str]], split: str) -> dict[str, str]:
    """Arrow files of the splits that `split` names, such as train[:100] or train+test."""
    names = [part.split("[")[0].strip() for part in split.split("+")]
    if unknown := [name for name in names if name not in files]:
        known = ", ".join(map(str, files))
        raise UserError(f"there is no split {unknown[0]!r}; set data.split to one of {known}")
    local = _hub.DownloadManager().download({name: list(files[name]) for name in names})
    paths = {name: [Path(path) for path in each] for name, each in local.items()}
    return {name: str(path) for name, path in arrow_files(paths, kind).items()}


def _common_types(files: Mapping[str, Sequence[str]]) -> Any:
    """Features that hold for every Parquet file of a local data set; None: as the files say."""
    paths = [Path(path) for each in files.values() for path in each]
    if len(paths) < 2 or not all(path.is_file() for path in paths):
        return None
    common: dict[str, Any] = {}
    for path in paths:
        for name, kind in _hub.Features.from_arrow_schema(_parquet.read_schema(path)).items():
            common[name] = common_feature(common.get(name, kind), kind)
    return _hub.Features(common)


def _source(name: str, table: Any, *folders: Path) -> Source:
    resolved = tuple(folder.expanduser().resolve() for folder in folders)
    return Source(name, table.with_format("arrow"), resolved)
