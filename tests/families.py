"""Tiny models of other families than the laptop's own, with random weights and own processors."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    InternVLProcessor,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from models.assembly.image_tokens import IMAGE_TOKEN
from models.tiny.model import CHAT_TEMPLATE, build_tiny_vlm, tiny_tokenizer

_WIDE = 0.08
"""Narrow layers need wider weights than large ones for images and places to matter."""


def _tokenizer(*special: str) -> Qwen2Tokenizer:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([AddedToken(token, special=True) for token in special])
    return tokenizer


def _language(tokenizer: Qwen2Tokenizer) -> dict[str, Any]:
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
        "initializer_range": _WIDE,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _as_published(folder: Path) -> None:
    """Name the tower's weights as LLaVA's checkpoints do; transformers keeps what it once read."""
    file = folder / "model.safetensors"
    weights = load_file(file)
    names = {name: name.replace("vision_tower.", "vision_tower.vision_model.") for name in weights}
    save_file({names[name]: weight for name, weight in weights.items()}, file, {"format": "pt"})


def _save(make: Callable[[], Any], tokenizer: Qwen2Tokenizer, folder: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make()
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)


def build_qwen2_5_vl(folder: Path) -> None:
    """Windowed attention in the tower, images of any shape, positions in three directions."""
    start, pad, end, video = "<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|video_pad|>"
    tokenizer = _tokenizer(start, pad, end, video)
    rope = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [4, 6, 6]}
    config = Qwen2_5_VLConfig(
        text_config=_language(tokenizer) | {"rope_parameters": rope},
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 128,
            "patch_size": 14,
            "window_size": 56,
            "fullatt_block_indexes": [1],
            "initializer_range": _WIDE,
        },
        image_token_id=tokenizer.convert_tokens_to_ids(pad),
        video_token_id=tokenizer.convert_tokens_to_ids(video),
        vision_start_token_id=tokenizer.convert_tokens_to_ids(start),
        vision_end_token_id=tokenizer.convert_tokens_to_ids(end),
        tie_word_embeddings=True,
    )
    _save(lambda: Qwen2_5_VLForConditionalGeneration(config), tokenizer, folder)
    pixels = {"shortest_edge": 4 * 28 * 28, "longest_edge": 16 * 28 * 28}
    Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=pixels),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(size=pixels),
        chat_template=CHAT_TEMPLATE.replace(IMAGE_TOKEN, f"{start}{pad}{end}"),
    ).save_pretrained(folder)


def build_llava(folder: Path) -> None:
    """A CLIP tower read one layer before its last, a projector, and Llama."""
    tokenizer = _tokenizer("<image>")
    config = LlavaConfig(
        text_config=LlamaConfig(**_language(tokenizer)),
        vision_config=CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=2,
            image_size=56,
            patch_size=14,
            initializer_range=_WIDE,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        image_seq_length=16,
    )
    _save(lambda: LlavaForConditionalGeneration(config), tokenizer, folder)
    _as_published(folder)
    LlavaProcessor(
        image_processor=CLIPImageProcessor(
            size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}
        ),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE.replace(IMAGE_TOKEN, "<image>"),
    ).save_pretrained(folder)


def build_tiled_internvl(folder: Path, tile: int = 56, most: int = 4) -> None:
    """The laptop's own policy, with an image cut into up to `most` tiles, and a thumbnail."""
    build_tiny_vlm(folder, seed=3)
    processor: Any = InternVLProcessor.from_pretrained(folder)
    processor.image_processor.max_patches = most
    processor.image_processor.size = {"height": tile, "width": tile}
    processor.image_seq_length = (tile // 14 // 2) ** 2
    processor.save_pretrained(folder)


def build_qwen3_text(folder: Path) -> None:
    """Text only, queries and keys normalised by head."""
    tokenizer = _tokenizer()
    config = Qwen3Config(**_language(tokenizer))
    _save(lambda: Qwen3ForCausalLM(config), tokenizer, folder)
    tokenizer.save_pretrained(folder)


def build_llama_text(folder: Path) -> None:
    """Text only, no biases, untied output layer."""
    tokenizer = _tokenizer()
    config = LlamaConfig(**_language(tokenizer))
    _save(lambda: LlamaForCausalLM(config), tokenizer, folder)
    tokenizer.save_pretrained(folder)


FAMILIES: dict[str, Callable[[Path], None]] = {
    "internvl, tiled": build_tiled_internvl,
    "qwen2.5-vl": build_qwen2_5_vl,
    "llava": build_llava,
    "qwen3": build_qwen3_text,
    "llama": build_llama_text,
}
