"""Checkpoints as streams of tensors: sharded safetensors in, sharded safetensors out.

Output is planned first, from the files' headers alone: a `LazyTensor` has a tensor's shape and
dtype, and makes it when it is written. So faults are found before a byte is written, and no more
than one tensor lies in memory at a time: a file's header goes first, and tensors behind it one
after another.
"""

import json
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import torch
from huggingface_hub import snapshot_download
from safetensors import safe_open
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
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
GIB = 2**30


class Planned(Protocol):
    """What is known of a tensor before it is there."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> torch.dtype: ...


@dataclass(frozen=True, slots=True)
class LazyTensor:
    """A tensor that is read or made when it is written."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    make: Callable[[], Tensor]

    @property
    def num_bytes(self) -> int:
        """Its size on disk."""
        return _num_bytes(self)


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


@dataclass(frozen=True, slots=True)
class ShardFile:
    """A file of tensors."""

    name: str
    tensors: Sequence[str]
    """In the order in which they lie in it."""


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
    files = shard_files(plan, shard_bytes)
    tensors = (plan[name].make() for file in files for name in file.tensors)
    stream_shards(folder, plan, files, tensors, written)


def shard_files(plan: Mapping[str, Planned], shard_bytes: int) -> list[ShardFile]:
    """How tensors are dealt to files of about `shard_bytes`."""
    groups = [sorted(g, key=lambda n: -plan[n].dtype.itemsize) for g in _grouped(plan, shard_bytes)]
    if len(groups) == 1:
        return [ShardFile(_WHOLE, groups[0])]
    of = f"of-{len(groups):05d}.safetensors"
    return [ShardFile(f"model-{i:05d}-{of}", group) for i, group in enumerate(groups, 1)]


def stream_shards(
    folder: Path,
    plan: Mapping[str, Planned],
    files: Sequence[ShardFile],
    tensors: Iterator[Tensor],
    written: Callable[[str], object] = lambda name: None,
) -> None:
    """Write `tensors`, which come in the order of `files`, and an index where there are several.

    Raises:
        AssertionError: a tensor does not look as planned.
    """
    for file in files:
        # A file of its own, also where there is one: whoever maps the old weights keeps them.
        (folder / file.name).unlink(missing_ok=True)
        with (folder / file.name).open("wb") as out:
            out.write(_header({name: plan[name] for name in file.tensors}))
            for name in file.tensors:
                _append(out, plan[name], next(tensors))
                written(name)
    if len(files) > 1:
        total = sum(_num_bytes(tensor) for tensor in plan.values())
        where = {name: file.name for file in files for name in file.tensors}
        index = {"metadata": {"total_size": total}, "weight_map": where}
        (folder / _INDEX).write_text(json.dumps(index, indent=2) + "\n", "utf-8")


def _header(planned: Mapping[str, Planned]) -> bytes:
    """What a safetensors file begins with: the length of a JSON, and it, which says of each tensor
    where it lies behind."""
    about: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in planned.items():
        start, end = end, end + _num_bytes(tensor)
        about[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(about, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text


def _append(out: BinaryIO, planned: Planned, tensor: Tensor) -> None:
    assert tensor.shape == planned.shape and tensor.dtype == planned.dtype, tensor.shape
    out.write(tensor.contiguous().flatten().view(torch.uint8).numpy())


def _num_bytes(tensor: Planned) -> int:
    return prod(tensor.shape) * tensor.dtype.itemsize


def _grouped(plan: Mapping[str, Planned], shard_bytes: int) -> list[list[str]]:
    groups: list[list[str]] = [[]]
    filled = 0
    for name, tensor in plan.items():
        size = _num_bytes(tensor)
        if groups[-1] and filled + size > shard_bytes:
            groups.append([])
            filled = 0
        groups[-1].append(name)
        filled += size
    return groups


def copy_files(source: Path, target: Path, names: Collection[str]) -> None:
    """Copy those of the named files that `source` has and `target` has not."""
    for name in names:
        if (source / name).is_file() and not (target / name).exists():
            shutil.copyfile(source / name, target / name)
