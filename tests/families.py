"""Tiny models of every family that runs here, with random weights and own processors."""

from collections.abc import Callable
from pathlib import Path

from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tests.expert_families import build_internvl3_5_moe, build_qwen3_moe, build_qwen3_vl_moe
from tests.family_parts import language_fields, save_model, tokenizer_with
from tests.tiled_families import build_idefics3, build_internvl3_5
from tests.vision_families import (
    build_glm4v,
    build_llava,
    build_llava_onevision,
    build_qwen2_5_vl,
    build_qwen3_vl,
    build_tiled_internvl,
)


def build_qwen3_text(folder: Path) -> None:
    """Text only, queries and keys normalised by head."""
    tokenizer = tokenizer_with()
    config = Qwen3Config(**language_fields(tokenizer))
    save_model(lambda: Qwen3ForCausalLM(config), tokenizer, folder)
    tokenizer.save_pretrained(folder)


def build_llama_text(folder: Path) -> None:
    """Text only, no biases, untied output layer."""
    tokenizer = tokenizer_with()
    config = LlamaConfig(**language_fields(tokenizer))
    save_model(lambda: LlamaForCausalLM(config), tokenizer, folder)
    tokenizer.save_pretrained(folder)


def build_mistral_text(folder: Path) -> None:
    """Text only, without the sliding window that early ones have."""
    tokenizer = tokenizer_with()
    config = MistralConfig(**language_fields(tokenizer), sliding_window=None)
    save_model(lambda: MistralForCausalLM(config), tokenizer, folder)
    tokenizer.save_pretrained(folder)


FAMILIES: dict[str, Callable[[Path], None]] = {
    "internvl, tiled": build_tiled_internvl,
    "internvl3.5": build_internvl3_5,
    "internvl3.5-moe": build_internvl3_5_moe,
    "qwen2.5-vl": build_qwen2_5_vl,
    "qwen3-vl": build_qwen3_vl,
    "qwen3-vl-moe": build_qwen3_vl_moe,
    "llava": build_llava,
    "llava-onevision": build_llava_onevision,
    "glm-4v": build_glm4v,
    "idefics3": build_idefics3,
    "qwen3": build_qwen3_text,
    "qwen3-moe": build_qwen3_moe,
    "llama": build_llama_text,
    "mistral": build_mistral_text,
}
