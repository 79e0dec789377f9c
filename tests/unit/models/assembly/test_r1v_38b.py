"""Skywork-R1V-38B by name and shape (paper, section 6.3); nothing of it is in memory."""

from math import prod
from typing import Any

import torch

from models.assembly.r1v import check_shapes, expected_shapes
from models.assembly.shards import Shards
from models.assembly.skywork_config import as_transformers_config
from models.assembly.skywork_names import as_chat, as_transformers

CONFIG: dict[str, Any] = {
    "architectures": ["SkyworkR1VChatModel"],
    "downsample_ratio": 0.5,
    "dynamic_image_size": True,
    "force_image_size": 448,
    "hidden_size": 5120,
    "ps_version": "v2",
    "llm_config": {
        "architectures": ["Qwen2ForCausalLM"],
        "hidden_size": 5120,
        "intermediate_size": 27648,
        "num_hidden_layers": 64,
        "num_attention_heads": 40,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1e6,
        "vocab_size": 152064,
        "tie_word_embeddings": False,
    },
    "vision_config": {
        "model_type": "intern_vit_6b",
        "hidden_size": 3200,
        "intermediate_size": 12800,
        "num_hidden_layers": 45,
        "num_attention_heads": 25,
        "patch_size": 14,
        "image_size": 448,
        "qk_normalization": True,
        "qkv_bias": False,
        "norm_type": "rms_norm",
    },
}


class Headers(Shards):
    """A checkpoint of which only names and shapes are known."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        self.shapes = shapes
        self.dtypes = dict.fromkeys(shapes, torch.bfloat16)


def published() -> dict[str, tuple[int, ...]]:
    """The table of names and shapes, blocks written out."""
    shapes: dict[str, tuple[int, ...]] = {
        "vision_model.embeddings.class_embedding": (1, 1, 3200),
        "vision_model.embeddings.position_embedding": (1, 1025, 3200),
        "vision_model.embeddings.patch_embedding.weight": (3200, 3, 14, 14),
        "vision_model.embeddings.patch_embedding.bias": (3200,),
        "mlp1.0.weight": (12800,),
        "mlp1.0.bias": (12800,),
        "mlp1.1.weight": (5120, 12800),
        "mlp1.1.bias": (5120,),
        "mlp1.3.weight": (5120, 5120),
        "mlp1.3.bias": (5120,),
        "language_model.model.embed_tokens.weight": (152064, 5120),
        "language_model.model.norm.weight": (5120,),
        "language_model.lm_head.weight": (152064, 5120),
    }
    tower: dict[str, tuple[int, ...]] = {
        "attn.qkv.weight": (9600, 3200),
        "attn.q_norm.weight": (3200,),
        "attn.k_norm.weight": (3200,),
        "attn.proj.weight": (3200, 3200),
        "attn.proj.bias": (3200,),
        "mlp.fc1.weight": (12800, 3200),
        "mlp.fc1.bias": (12800,),
        "mlp.fc2.weight": (3200, 12800),
        "mlp.fc2.bias": (3200,),
        "norm1.weight": (3200,),
        "norm2.weight": (3200,),
        "ls1": (3200,),
        "ls2": (3200,),
    }
    language: dict[str, tuple[int, ...]] = {
        "self_attn.q_proj.weight": (5120, 5120),
        "self_attn.q_proj.bias": (5120,),
        "self_attn.k_proj.weight": (1024, 5120),
        "self_attn.k_proj.bias": (1024,),
        "self_attn.v_proj.weight": (1024, 5120),
        "self_attn.v_proj.bias": (1024,),
        "self_attn.o_proj.weight": (5120, 5120),
        "mlp.gate_proj.weight": (27648, 5120),
        "mlp.up_proj.weight": (27648, 5120),
        "mlp.down_proj.weight": (5120, 27648),
        "input_layernorm.weight": (5120,),
        "post_attention_layernorm.weight": (5120,),
    }
    for start, count, block in (
        ("vision_model.encoder.layers.", 45, tower),
        ("language_model.model.layers.", 64, language),
    ):
        shapes |= {f"{start}{n}.{name}": s for n in range(count) for name, s in block.items()}
    return shapes


def test_every_tensor_of_the_38b_model_finds_its_place_and_no_other() -> None:
    config, _ = as_transformers_config(CONFIG)
    check_shapes(config, as_transformers(Headers(published())))


def test_the_38b_model_of_transformers_goes_back_to_the_published_table() -> None:
    config, _ = as_transformers_config(CONFIG)
    plan = as_chat(Headers(expected_shapes(config)))
    assert {name: tensor.shape for name, tensor in plan.items()} == published()


def test_the_38b_projector_has_as_many_weights_as_the_published_one() -> None:
    config, _ = as_transformers_config(CONFIG)
    shapes = expected_shapes(config)
    projector = [s for name, s in shapes.items() if name.startswith("multi_modal_projector.")]
    assert sum(prod(shape) for shape in projector) == 91_786_240
    assert config.image_seq_length == 256
    assert config.tie_word_embeddings is False
