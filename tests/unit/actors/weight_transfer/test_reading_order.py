"""Layers that lie in two buffers are read on one stream and made on another: in what order.

vLLM's own packing of buffers on two streams, over streams that do everything as late as they may
and memory that is handed out again as early as it may.
"""

import ctypes
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter
from vllm.distributed.weight_transfer import packed_tensor

from actors.weight_transfer.policy_source import PolicySource, ResumableSource
from models.policy.checkpoint_weights import CheckpointWeight
from tests.played.memory import OnGPU, PlayedMemory
from tests.played.streams import Stream, TorchWith, current_stream, play_streams

LAYERS, WEIGHTS, NUMBERS = 12, 3, 8
BUFFER = 4 * NUMBERS * 4
"""Bytes that a buffer takes before it is sent: more than a layer's three weights, less than two."""


def queued_cat(tensors: Sequence[Tensor], dim: int) -> Tensor:
    """`torch.cat` of bytes, which the current stream does in its own time, from addresses."""
    stretches = [(tensor.data_ptr(), tensor.numel()) for tensor in tensors]
    joined = torch.empty(sum(size for _, size in stretches), dtype=torch.uint8)

    def copy() -> None:
        there = b"".join(ctypes.string_at(*stretch) for stretch in stretches)
        joined.copy_(torch.frombuffer(bytearray(there), dtype=torch.uint8))

    current_stream().begin(copy)
    return joined


def uneven_cat() -> Callable[..., Tensor]:
    """The same, where all streams but the first that is met come to it at once."""
    slow: list[Stream] = []

    def cat(tensors: Sequence[Tensor], dim: int) -> Tensor:
        joined = queued_cat(tensors, dim)
        slow.append(current_stream())
        if current_stream() != slow[0]:
            current_stream().synchronize()
        return joined

    return cat


class Wire:
    """A communicator whose broadcasts are taken in the order of its streams."""

    def __init__(self) -> None:
        self.sent: dict[int, Tensor] = {}

    def broadcast(self, tensor: Tensor, src: int) -> None:
        number = len(self.sent)
        self.sent[number] = tensor
        current_stream().begin(lambda: self.sent.update({number: tensor.clone()}))


def made_late(memory: PlayedMemory, name: str, numbers: Tensor) -> dict[str, Tensor]:
    return {name: memory.take(numbers, late=True)}


def weight(numbers: Tensor, piece: Callable[[], dict[str, Tensor]] | None) -> CheckpointWeight:
    """One that is empty until it is gathered. `piece`: what is sent in its place."""

    def apart(whole: Tensor) -> dict[str, Tensor]:
        assert piece is not None
        return dict.fromkeys(piece(), whole) if whole.is_meta else piece()

    shard: Any = Parameter(torch.empty(0).as_subclass(OnGPU))
    shard.ds_shape, shard.whole = numbers.shape, numbers
    return CheckpointWeight(shard, apart=apart if piece else None)


def lost(memory: PlayedMemory, monkeypatch: pytest.MonkeyPatch, *, late: bool = False) -> Tensor:
    """How far what a sender's buffers carried is from what was to be sent. `late`: a piece that the
    stream still has to make travels in place of each weight."""
    play_streams(monkeypatch.setattr)
    monkeypatch.setattr(packed_tensor, "torch", TorchWith(cat=uneven_cat() if late else queued_cat))
    policy = torch.arange(LAYERS * WEIGHTS * NUMBERS).float().view(LAYERS, WEIGHTS, NUMBERS)
    weights: dict[str, CheckpointWeight] = {}
    for layer, rows in enumerate(policy):
        for place, numbers in enumerate(rows):
            name = f"layers.{layer}.m.{place}"
            piece = partial(made_late, memory, name, numbers) if late else None
            weights[name] = weight(numbers, piece)

    @contextmanager
    def gathered(parameters: Sequence[Any]) -> Generator[None]:
        for parameter in parameters:
            parameter.data = memory.take(parameter.whole)
        yield
        for parameter in parameters:  # as ZeRO 3 does
            parameter.record_stream(current_stream())
            parameter.data = torch.empty(0).as_subclass(OnGPU)

    source = ResumableSource(PolicySource(weights, gathered))
    wire = Wire()
    send = packed_tensor.packed_nccl_broadcast_producer
    send(iter(source), wire, 0, lambda item: item[1], BUFFER)
    arrived = torch.cat([wire.sent[number] for number in range(len(wire.sent))]).view(torch.float32)
    return arrived.view(policy.shape) - policy


def test_memory_of_a_layer_goes_to_the_next_one_only_when_its_last_copy_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory = PlayedMemory(NUMBERS)
    assert not lost(memory, monkeypatch).any()
    assert memory.handed_out_again > LAYERS


def test_a_layer_is_read_when_the_stream_that_makes_it_has_come_to_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not lost(PlayedMemory(NUMBERS), monkeypatch, late=True).any()


def test_either_of_these_orders_left_out_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(OnGPU, "record_stream", lambda *_: None)
        assert lost(PlayedMemory(NUMBERS), patch).any()
    with monkeypatch.context() as patch:
        patch.setattr(Stream, "wait_event", lambda *_: None)
        assert lost(PlayedMemory(NUMBERS), patch, late=True).any()
