"""Ranks that share a policy of ZeRO 3 need host memory for their shards, not for the whole."""

from functools import partial
from pathlib import Path

import pytest
import torch.distributed as dist

from actors.training.deepspeed_engine import deepspeed_config, shard
from configs.schema.data import PromptConfig
from configs.schema.learner import LearnerConfig
from configs.schema.policy import PolicyConfig
from models.inputs.encoder import InputEncoder
from models.policy.loading import build_policy, load_model
from models.policy.policy import Policy
from tests.ray.actors.training.host_memory import (
    LAYERS,
    MIB,
    RANKS,
    Peak,
    anonymous,
    ranks_say,
    write_experts,
    write_policy,
)

pytestmark = pytest.mark.slow


def _sharded(folder: Path, dtype: str) -> Policy:
    learner = LearnerConfig(ranks=RANKS, zero_stage=3)
    config = PolicyConfig.model_validate({"path": str(folder), "dtype": dtype})
    encoder = InputEncoder(folder, PromptConfig(), trust_remote_code=False)
    model = load_model(config, folder, as_saved=True)
    policy = build_policy(model, config, encoder, learner=learner)
    shard(policy, deepspeed_config(learner, dtype), dtype)
    return policy


def _loaded(folder: Path, dtype: str) -> tuple[int, int]:
    """Bytes that loading took at most, and those of the shard."""
    _sharded(folder / "small", dtype)  # what is imported and set up at the first time
    dist.barrier()
    before, peak = anonymous(), Peak()
    policy = _sharded(folder / "large", dtype)
    return peak.end() - before, sum(p.ds_tensor.nbytes for p in policy.parameters())


def test_a_rank_takes_memory_for_its_shard_and_one_weight_of_files_in_another_precision(
    tmp_path: Path,
) -> None:
    write_policy(tmp_path / "small", layers=1)
    write_policy(tmp_path / "large", layers=LAYERS)
    told = ranks_say(tmp_path, partial(_loaded, tmp_path, "bfloat16"))
    assert sum(share for _, share in told) > LAYERS * 4e6 * 2
    for most, share in told:
        assert most <= 1.3 * share + 4 * MIB


def test_a_rank_joins_the_experts_of_one_layer_at_a_time(tmp_path: Path) -> None:
    write_experts(tmp_path / "small", layers=1)
    write_experts(tmp_path / "large", layers=LAYERS)
    told = ranks_say(tmp_path, partial(_loaded, tmp_path, "float32"))
    assert sum(share for _, share in told) > LAYERS * 4.7e6 * 4
    for most, share in told:
        # Of the layer's largest weight the halves that are joined, and the whole.
        assert most <= 1.3 * share + 2 * 12 * MIB
