"""Tiny mixtures of experts, of which each token goes to two of four."""

from pathlib import Path
from typing import Any

from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
    Qwen3VLMoeConfig,
    Qwen3VLMoeForConditionalGeneration,
)

from tests.family_parts import language_fields, save_model, tokenizer_with
from tests.vision_families import (
    QWEN_TOKENS,
    build_tiled_internvl,
    qwen3_vl_fields,
    qwen_token_ids,
    save_qwen3_processor,
)

EXPERTS: dict[str, Any] = {
    "moe_intermediate_size": 48,  # vLLM's kernels on CPU want multiples of 32, and get padding
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "norm_topk_prob": True,
}


def build_qwen3_moe(folder: Path) -> None:
    """Text only; checkpoints have each expert's three matrices by themselves."""
    tokenizer = tokenizer_with()
    config = Qwen3MoeConfig(**language_fields(tokenizer), **EXPERTS)
    save_model(lambda: Qwen3MoeForCausalLM(config), tokenizer, folder)
    tokenizer.save_pretrained(folder)


def build_qwen3_vl_moe(folder: Path) -> None:
    """Checkpoints have a layer's experts joined, and turned round: [expert, in, out]."""
    tokenizer = tokenizer_with(*QWEN_TOKENS.values())
    fields = qwen3_vl_fields(tokenizer)
    config = Qwen3VLMoeConfig(
        text_config=fields.pop("text_config") | EXPERTS, **fields, **qwen_token_ids(tokenizer)
    )
    save_model(lambda: Qwen3VLMoeForConditionalGeneration(config), tokenizer, folder)
    save_qwen3_processor(tokenizer, folder)


def build_internvl3_5_moe(folder: Path) -> None:
    """InternVL's tower and tiles, and a Qwen3-MoE for its language model."""
    build_tiled_internvl(folder)
    tokenizer = Qwen2Tokenizer.from_pretrained(folder)
    config = InternVLConfig.from_pretrained(folder)
    config.text_config = Qwen3MoeConfig(**language_fields(tokenizer), **EXPERTS)
    config.tie_word_embeddings = False
    save_model(lambda: InternVLForConditionalGeneration(config), tokenizer, folder)
