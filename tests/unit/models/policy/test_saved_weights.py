"""What a checkpoint has of a policy's weights, made a few at a time."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModel,
    Glm4MoeConfig,
    NomicBertConfig,
    PreTrainedConfig,
    Qwen3MoeConfig,
)

from models.policy.checkpoint_weights import saved_weights

SMALL = {"vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}


@pytest.mark.parametrize(
    ("config", "at_a_time"),
    [
        # The model has a layer's experts in one weight, checkpoints have each apart.
        (Qwen3MoeConfig(**SMALL, num_experts=4, moe_intermediate_size=8), 1),
        # The model has q, k and v apart, checkpoints in one weight.
        (NomicBertConfig(**SMALL, intermediate_size=32), 3),
        # A router has a buffer that checkpoints hold, and no optimizer.
        (
            Glm4MoeConfig(
                **SMALL,
                num_key_value_heads=2,
                head_dim=8,
                intermediate_size=32,
                moe_intermediate_size=8,
                n_routed_experts=4,
                num_experts_per_tok=2,
                first_k_dense_replace=1,
            ),
            1,
        ),
    ],
    ids=["joined", "cut", "buffers"],
)
def test_weights_that_transformers_joins_or_cuts_are_as_they_were_read(
    config: PreTrainedConfig, at_a_time: int, tmp_path: Path
) -> None:
    AutoModel.from_config(config).save_pretrained(tmp_path)
    read = load_file(tmp_path / "model.safetensors")
    groups = saved_weights(AutoModel.from_pretrained(tmp_path))
    made = {name: tensor for group in groups for name, tensor in group.made().items()}
    planned = {name: tensor for group in groups for name, tensor in group.saved.items()}
    assert made.keys() == planned.keys() == read.keys()
    for name, tensor in read.items():
        assert torch.equal(made[name], tensor), name
        assert (planned[name].shape, planned[name].dtype) == (tensor.shape, tensor.dtype), name
    assert max(len(group.weights) for group in groups) == at_a_time
