"""Ranks that share a large policy over gloo, and what host memory they take."""

import ctypes
import multiprocessing
import os
import threading
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

from actors.training.deepspeed_engine import import_deepspeed
from models.tiny.model import tiny_tokenizer

import_deepspeed()  # once, not in each rank
RANKS = 4
LAYERS = 12
MIB = 2**20
_M_MMAP_THRESHOLD = -3
"""mallopt's name for the size from which memory is given back at once when it is free."""


def write_policy(folder: Path, layers: int) -> None:
    """A policy of 4.2 million weights a layer, 16 MiB in float32, the largest weight 4 MiB."""
    tokenizer = tiny_tokenizer()
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=512,
        intermediate_size=2048,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder, max_shard_size="20MB")
    tokenizer.save_pretrained(folder)


def write_experts(folder: Path, layers: int) -> None:
    """A policy of 5.2 million weights a layer, of which 4.7 in 12 experts, which files have one by
    one; the largest weight of a layer that joins them has 3.1 million, 12 MiB in float32."""
    tokenizer = tiny_tokenizer()
    config = Qwen3MoeConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        moe_intermediate_size=512,
        num_experts=12,
        num_experts_per_tok=2,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
    )
    Qwen3MoeForCausalLM(config).save_pretrained(folder, max_shard_size="20MB")
    tokenizer.save_pretrained(folder)


def anonymous() -> int:
    """Bytes of memory that are this process's alone: not pages of a file."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) * 1024


class Peak:
    """The most anonymous memory, looked at every 2 ms."""

    def __init__(self) -> None:
        self._bytes = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(0.002):
            self._bytes = max(self._bytes, anonymous())

    def end(self) -> int:
        self._over.set()
        self._thread.join()
        return max(self._bytes, anonymous())


def ranks_say(folder: Path, work: Callable[[], Any]) -> list[Any]:
    """What `work`, which can be pickled, says on each of four ranks that have met."""
    # A server that imports once, and is forked for each rank. This process must not be: forked with
    # a Ray session in it, its own connections to Ray may never hear of anything again.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    pipes = [context.Pipe(duplex=False) for _ in range(RANKS)]
    ranks = [
        context.Process(target=_rank, args=(rank, folder, work, pipes[rank][1]))
        for rank in range(RANKS)
    ]
    for rank in ranks:
        rank.start()
    for _, writer in pipes:
        writer.close()  # or nobody would hear of a rank's death
    told = [reader.recv() for reader, _ in pipes]
    for rank in ranks:
        rank.join()
    forkserver._forkserver._stop()  # with all that it has imported
    return told


def _rank(rank: int, folder: Path, work: Callable[[], Any], told: Connection) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK="0", WORLD_SIZE=str(RANKS))
    torch.set_num_threads(1)
    ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 65536)
    dist.init_process_group("gloo", init_method=f"file://{folder}/met", rank=rank, world_size=RANKS)
    told.send(work())
    dist.barrier()
    os._exit(0)  # what DeepSpeed registers at exit waits for ranks that are gone
