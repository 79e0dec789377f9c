"""Checkpoints as streams of tensors: sharded safetensors in, sharded safetensors out.

Output is planned first, from the files' headers alone: a `LazyTensor` has a tensor's shape and
dtype, and makes it when it is written. So faults are found before a byte is written, and no more
than one output shard lies in memory at a time.
"""

import json
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from rl.console.errors import UserError

_INDEX = "model.safetensors.index.json"
_WHOLE = "model.safetensors"
_WANTED = ("*.json", "*.safetensors", "*.txt", "*.jinja", "*.model")
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
GIB = 2**30


@dataclass(frozen=True, slots=True)
class LazyTensor:
    """A tensor that is read or made when it is written."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    make: Callable[[], Tensor]

    @property
    def num_bytes(self) -> int:
        """Its size on disk."""
        return prod(self.shape) * self.dtype.itemsize


def plan_line(plan: Mapping[str, LazyTensor]) -> str:
    """Number of tensors and values, and GiB, in words."""
    values = sum(prod(tensor.shape) for tensor in plan.values())
    size = sum(tensor.num_bytes for tensor in plan.values())
    return f"{len(plan):,} tensors, {values:,} values, {size / GIB:,.2f} GiB"


def local_folder(source: Path | str) -> Path:
    """The folder meant by a path or a hub name, fetched from the hub where it is one.

    Raises:
        ValueError: it is neither, or holds no config.json.
    """
    if Path(source).is_dir():
        if not (Path(source) / "config.json").is_file():
            raise UserError(f"{source} holds no config.json; name the folder of a checkpoint")
        return Path(source)
    try:
        return Path(snapshot_download(str(source), allow_patterns=list(_WANTED)))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{source} is neither a folder nor a model that the hub gives out: {error}"
        ) from error


class Shards:
    """The tensors of a checkpoint folder by name; one file is open at a time."""

    def __init__(self, folder: Path) -> None:
        """Read the headers. ValueError: no safetensors, files missing, or a precision not known."""
        self.folder = folder
        self._files = _files_of(folder)
        self._open: tuple[str, Any] | None = None
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.dtypes: dict[str, torch.dtype] = {}
        for file in sorted(set(self._files.values())):
            self._read_header(file)

    def __contains__(self, name: object) -> bool:
        return name in self.shapes

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def read(self, name: str) -> Tensor:
        """The tensor called `name`, on the CPU, in the file's dtype."""
        return self._handle(self._files[name]).get_tensor(name)

    def rows(self, name: str, start: int, stop: int) -> Tensor:
        """Rows `start` to `stop` of the tensor called `name`; only they are read."""
        return self._handle(self._files[name]).get_slice(name)[start:stop]

    def planned(self, name: str) -> LazyTensor:
        """A plan to write the tensor as it is."""
        return LazyTensor(self.shapes[name], self.dtypes[name], lambda: self.read(name))

    def _read_header(self, file: str) -> None:
        handle = self._handle(file)
        held = set(handle.keys())
        for name in [name for name, of in self._files.items() if of == file]:
            if name not in held:
                raise UserError(f"{self.folder / file} lacks {name}, which the index puts there")
            part = handle.get_slice(name)
            if part.get_dtype() not in _DTYPES:
                raise UserError(
                    f"{name} in {self.folder} is {part.get_dtype()}, a quantised weight; "
                    f"take a checkpoint in one of {', '.join(_DTYPES)}"
                )
            self.shapes[name] = tuple(part.get_shape())
            self.dtypes[name] = _DTYPES[part.get_dtype()]

    def _handle(self, file: str) -> Any:
        if self._open is None or self._open[0] != file:
            self._open = None  # closed before the next one is opened
            self._open = (file, safe_open(self.folder / file, framework="pt"))
        return self._open[1]


def _files_of(folder: Path) -> dict[str, str]:
    """The file of each tensor."""
    index = folder / _INDEX
    if index.is_file():
        files: dict[str, str] = json.loads(index.read_text("utf-8"))["weight_map"]
        missing = sorted({file for file in files.values() if not (folder / file).is_file()})
        if missing:
            raise UserError(f"{folder} lacks {', '.join(missing)}, named in its {_INDEX}")
        return files
    if (folder / _WHOLE).is_file():
        with safe_open(folder / _WHOLE, framework="pt") as handle:
            return dict.fromkeys(handle.keys(), _WHOLE)
    raise UserError(
        f"{folder} holds neither {_INDEX} nor {_WHOLE}; only safetensors are read, so save the "
        "checkpoint in that form"
    )


def write_shards(
    folder: Path,
    plan: Mapping[str, LazyTensor],
    shard_bytes: int,
    written: Callable[[str], object] = lambda name: None,
) -> None:
    """Make and write all tensors, in files of about `shard_bytes`; `written` gets each name.

    Raises:
        AssertionError: a tensor does not look as planned.
    """
    groups = _grouped(plan, shard_bytes)
    names = [_WHOLE]
    if len(groups) > 1:
        names = [f"model-{i + 1:05d}-of-{len(groups):05d}.safetensors" for i in range(len(groups))]
    for file, group in zip(names, groups, strict=True):
        tensors: dict[str, Tensor] = {}
        for name in group:
            tensor = plan[name].make().contiguous()
            assert tensor.shape == plan[name].shape and tensor.dtype == plan[name].dtype, name
            tensors[name] = tensor
            written(name)
        save_file(tensors, folder / file, metadata={"format": "pt"})
    if len(groups) > 1:
        total = sum(tensor.num_bytes for tensor in plan.values())
        where = {name: file for file, group in zip(names, groups, strict=True) for name in group}
        index = {"metadata": {"total_size": total}, "weight_map": where}
        (folder / _INDEX).write_text(json.dumps(index, indent=2) + "\n", "utf-8")


def _grouped(plan: Mapping[str, LazyTensor], shard_bytes: int) -> list[list[str]]:
    groups: list[list[str]] = [[]]
    filled = 0
    for name, tensor in plan.items():
        if groups[-1] and filled + tensor.num_bytes > shard_bytes:
            groups.append([])
            filled = 0
        groups[-1].append(name)
        filled += tensor.num_bytes
    return groups


def copy_files(source: Path, target: Path, names: Collection[str]) -> None:
    """Copy those of the named files that `source` has and `target` has not."""
    for name in names:
        if (source / name).is_file() and not (target / name).exists():
            shutil.copyfile(source / name, target / name)
