"""Flat buffers arrive as they were sent, through shared memory or, where there is none, sockets."""

import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
import torch
from torch import Tensor
from torch.distributed import ProcessGroup
from vllm.distributed.utils import stateless_init_torch_distributed_process_group

from actors.weight_transfer.channel import (
    Channel,
    SharedMemory,
    Sockets,
    agree,
    open_memory,
    own_memory,
)

RANKS = 3
"""A sender and two engines."""
LARGEST = 4 * 4096
BUCKETS = [[torch.full((n, 2), float(i)), torch.arange(float(i))] for i, n in enumerate([9] * 7)]
BUCKETS += [[torch.ones(LARGEST // 4)], [torch.full((5,), 3.0, dtype=torch.bfloat16)]]


def group_of(rank: int, port: int) -> ProcessGroup:
    limit = timedelta(seconds=60)
    group = stateless_init_torch_distributed_process_group(
        "127.0.0.1", port, rank, RANKS, backend="gloo", timeout=limit
    )
    assert isinstance(group, ProcessGroup)
    return group


@pytest.fixture
def groups() -> Iterator[list[ProcessGroup]]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with ThreadPoolExecutor(RANKS) as ranks:
        met = list(ranks.map(group_of, range(RANKS), [port] * RANKS))
    yield met
    for group in met:
        group.shutdown()


def channels(groups: list[ProcessGroup], *, blind: int | None = None) -> list[Channel]:
    """Of each rank; engine `blind` is told of memory that is not the sender's."""
    with ThreadPoolExecutor(RANKS) as ranks, own_memory(LARGEST) as (own, info):
        assert info is not None
        told = [replace(info, secret="00" * 16) if rank == blind else info for rank in (1, 2)]
        memories = [own, *map(open_memory, told)]
        return list(ranks.map(agree, groups, memories))


def received(channel: Channel, pause_s: float) -> list[Tensor]:
    """All buffers, each looked at `pause_s` after it came, as a slow loader would."""
    found: list[Tensor] = []
    sizes = [(sum(part.numel() for part in parts), parts[0].dtype) for parts in BUCKETS]
    for flat in channel.receive(sizes):
        time.sleep(pause_s)
        found.append(flat.clone())
    return found


def sent(channel: Channel) -> None:
    for parts in BUCKETS:
        channel.send(parts)
    channel.flush()


def check_rounds(ends: list[Channel], rounds: int) -> None:
    expected = [torch.cat([part.reshape(-1) for part in parts]) for parts in BUCKETS]
    with ThreadPoolExecutor(RANKS) as ranks:
        for _ in range(rounds):
            sending = ranks.submit(sent, ends[0])
            for found in ranks.map(received, ends[1:], (0.0, 0.01)):
                assert len(found) == len(expected)
                assert all(map(torch.equal, found, expected))
            sending.result()


def test_slow_and_fast_engines_of_one_node_get_all_buffers_in_order(
    groups: list[ProcessGroup],
) -> None:
    ends = channels(groups)
    assert all(isinstance(end, SharedMemory) for end in ends)
    check_rounds(ends, 3)


def test_all_take_sockets_where_one_engine_does_not_see_the_memory(
    groups: list[ProcessGroup],
) -> None:
    ends = channels(groups, blind=2)
    assert all(isinstance(end, Sockets) for end in ends)
    check_rounds(ends, 2)


def test_memory_is_found_by_its_secret_and_nobody_finds_it_later() -> None:
    open_files = len(os.listdir("/proc/self/fd"))
    with own_memory(LARGEST) as (own, info):
        assert own is not None and info is not None
        theirs = open_memory(info)
        assert theirs is not None
        own[5000] = 7
        assert theirs[5000] == 7
        assert open_memory(replace(info, secret="00" * 16)) is None
    assert open_memory(info) is None
    for mapped in (own, theirs):
        mapped.close()
    assert len(os.listdir("/proc/self/fd")) == open_files


def test_a_machine_without_such_memory_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no memory")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with own_memory(LARGEST) as found:
        assert found == (None, None)
    monkeypatch.delattr(os, "memfd_create")
    with own_memory(LARGEST) as found:
        assert found == (None, None)
