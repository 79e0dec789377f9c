"""What tiny models of all families share: tokenizer, language model's shape, how they are saved."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken
from transformers import Qwen2Tokenizer

from models.policy.checkpoint_weights import experts_as_published
from models.tiny.model import tiny_tokenizer

WIDE = 0.08
"""Narrow layers need wider weights than large ones for images and places to matter."""


def tokenizer_with(*special: str) -> Qwen2Tokenizer:
    """The laptop's tokenizer, and special tokens."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([AddedToken(token, special=True) for token in special])
    return tokenizer


def tower_fields(layers: int) -> dict[str, Any]:
    """The part that towers of the CLIP kind share here: pictures of 56 pixels, in patches of 14."""
    return {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "image_size": 56,
        "patch_size": 14,
    }


def language_fields(tokenizer: Qwen2Tokenizer) -> dict[str, Any]:
    """The part that all language models here share: 4 heads of width 32, 2 of them for keys."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 128,
        "intermediate_size": 160,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "max_position_embeddings": 1024,
        "initializer_range": WIDE,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def save_model(make: Callable[[], Any], tokenizer: Qwen2Tokenizer, folder: Path) -> None:
    """Write the model that `make` makes as its publishers would, its weights drawn alike at each
    call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make()
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    with experts_as_published(model):
        model.save_pretrained(folder)
