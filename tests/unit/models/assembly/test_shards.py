"""Safetensors files are written a tensor at a time, and are those that safetensors writes."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from models.assembly.shards import LazyTensor, Shards, write_shards

TENSORS = {
    "half": torch.arange(15, dtype=torch.bfloat16).view(3, 5),
    "whole": torch.arange(6, dtype=torch.float32).view(2, 3),
    "turned": torch.arange(8, dtype=torch.float32).view(2, 4).t(),
    "one": torch.tensor(2.5),
    "none": torch.empty(0, 4),
}


def planned(made: list[str]) -> dict[str, LazyTensor]:
    def plan(name: str, tensor: Tensor) -> LazyTensor:
        return LazyTensor(tuple(tensor.shape), tensor.dtype, lambda: (made.append(name), tensor)[1])

    return {name: plan(name, tensor) for name, tensor in TENSORS.items()}


@pytest.mark.parametrize(("size", "files"), [(1000, 1), (40, 3)])
def test_what_is_written_is_read_again_to_the_bit(size: int, files: int, tmp_path: Path) -> None:
    write_shards(tmp_path, planned([]), size)
    found = sorted(tmp_path.glob("*.safetensors"))
    assert len(found) == files
    shards = Shards(tmp_path)
    assert set(shards) == set(TENSORS)
    for name, tensor in TENSORS.items():
        read = shards.read(name)
        assert torch.equal(read, tensor) and read.dtype == tensor.dtype
    for file in found:
        with safe_open(file, framework="pt") as opened:
            assert opened.metadata() == {"format": "pt"}


def test_a_tensor_is_made_when_the_one_before_is_written(tmp_path: Path) -> None:
    made: list[str] = []
    seen: list[list[str]] = []
    write_shards(tmp_path, planned(made), 1000, lambda name: seen.append([name, *made]))
    assert [(name, told[-1], len(told)) for name, *told in seen] == [
        (name, name, place) for place, (name, *_) in enumerate(seen, 1)
    ]


def test_a_tensor_that_is_not_as_planned_is_refused(tmp_path: Path) -> None:
    plan = {"x": LazyTensor((2,), torch.float32, lambda: torch.zeros(3))}
    with pytest.raises(AssertionError):
        write_shards(tmp_path, plan, 1000)


def test_who_maps_the_old_weights_keeps_them_when_new_ones_are_written(tmp_path: Path) -> None:
    def write(value: float) -> None:
        whole = torch.full((1000,), value)
        plan = LazyTensor(whole.shape, whole.dtype, lambda: whole)
        write_shards(tmp_path, {"weight": plan}, shard_bytes=10**6)

    write(1.0)
    with safe_open(tmp_path / "model.safetensors", framework="pt") as handle:
        old = handle.get_tensor("weight")
        write(2.0)
        assert old.eq(1.0).all() and handle.get_tensor("weight").eq(1.0).all()
