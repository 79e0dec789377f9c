"""Ranks that share a policy of ZeRO 3 need host memory for their shards, not for the whole."""

import ctypes
import multiprocessing
import os
import threading
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from transformers import Qwen2Config, Qwen2ForCausalLM

from actors.training.deepspeed_engine import deepspeed_config, shard
from configs.schema.data import PromptConfig
from configs.schema.learner import LearnerConfig
from configs.schema.policy import PolicyConfig
from models.inputs.encoder import InputEncoder
from models.policy.loading import build_policy, load_model
from models.policy.policy import Policy
from models.tiny.model import tiny_tokenizer

pytestmark = pytest.mark.slow

RANKS = 4
LAYERS = 12
MIB = 2**20
_M_MMAP_THRESHOLD = -3
"""mallopt's name for the size from which memory is given back at once when it is free."""


def _write(folder: Path, layers: int) -> None:
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


def _anonymous() -> int:
    """Bytes of memory that are this process's alone: not pages of a file."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) * 1024


class _Peak:
    """The most anonymous memory, looked at every 2 ms."""

    def __init__(self) -> None:
        self._bytes = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(0.002):
            self._bytes = max(self._bytes, _anonymous())

    def end(self) -> int:
        self._over.set()
        self._thread.join()
        return max(self._bytes, _anonymous())


def _sharded(folder: Path, dtype: str) -> Policy:
    learner = LearnerConfig(ranks=RANKS, zero_stage=3)
    config = PolicyConfig.model_validate({"path": str(folder), "dtype": dtype})
    encoder = InputEncoder(folder, PromptConfig(), trust_remote_code=False)
    model = load_model(config, folder, as_saved=True)
    policy = build_policy(model, config, encoder, learner=learner)
    shard(policy, deepspeed_config(learner, dtype), dtype)
    return policy


def _rank(rank: int, folder: Path, dtype: str, told: Connection) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK="0", WORLD_SIZE=str(RANKS))
    torch.set_num_threads(1)
    ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 65536)
    dist.init_process_group("gloo", init_method=f"file://{folder}/met", rank=rank, world_size=RANKS)
    _sharded(folder / "small", dtype)  # what is imported and set up at the first time
    dist.barrier()
    before, peak = _anonymous(), _Peak()
    policy = _sharded(folder / "large", dtype)
    most = peak.end() - before
    told.send((most, sum(p.ds_tensor.nbytes for p in policy.parameters())))
    dist.barrier()
    os._exit(0)  # what DeepSpeed registers at exit waits for ranks that are gone


def test_a_rank_takes_memory_for_its_shard_and_one_weight_of_files_in_another_precision(
    tmp_path: Path,
) -> None:
    _write(tmp_path / "small", layers=1)
    _write(tmp_path / "large", layers=LAYERS)
    context = multiprocessing.get_context("fork")  # imports take longer than the work
    pipes = [context.Pipe(duplex=False) for _ in range(RANKS)]
    ranks = [
        context.Process(target=_rank, args=(rank, tmp_path, "bfloat16", pipes[rank][1]))
        for rank in range(RANKS)
    ]
    for rank in ranks:
        rank.start()
    told = [reader.recv() for reader, _ in pipes]
    for rank in ranks:
        rank.join()
    assert sum(share for _, share in told) > LAYERS * 4e6 * 2
    for most, share in told:
        assert most <= 1.3 * share + 4 * MIB
