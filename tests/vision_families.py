"""Tiny vision-language models of other families than the laptop's own."""

from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    Glm4vConfig,
    Glm4vForConditionalGeneration,
    Glm4vImageProcessor,
    Glm4vProcessor,
    Glm4vVideoProcessor,
    InternVLProcessor,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    LlavaProcessor,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Config,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    SiglipVisionConfig,
)

from models.assembly.image_tokens import IMAGE_TOKEN
from models.tiny.model import CHAT_TEMPLATE, build_tiny_vlm
from tests.family_parts import WIDE, language_fields, save_model, tokenizer_with, tower_fields


def _as_published(folder: Path) -> None:
    """Name the tower's weights as LLaVA's checkpoints do; transformers keeps what it once read."""
    file = folder / "model.safetensors"
    weights = load_file(file)
    names = {name: name.replace("vision_tower.", "vision_tower.vision_model.") for name in weights}
    save_file({names[name]: weight for name, weight in weights.items()}, file, {"format": "pt"})


QWEN_TOKENS = {
    "vision_start": "<|vision_start|>",
    "image": "<|image_pad|>",
    "vision_end": "<|vision_end|>",
    "video": "<|video_pad|>",
}
_QWEN_TEMPLATE = CHAT_TEMPLATE.replace(
    IMAGE_TOKEN, "".join(QWEN_TOKENS[name] for name in ("vision_start", "image", "vision_end"))
)


def qwen_token_ids(tokenizer: Qwen2Tokenizer) -> dict[str, int]:
    """As configs name them."""
    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in QWEN_TOKENS.items()}
    return {f"{name}_token_id": number for name, number in ids.items()}


def build_qwen2_5_vl(folder: Path) -> None:
    """Windowed attention in the tower, images of any shape, positions in three directions."""
    tokenizer = tokenizer_with(*QWEN_TOKENS.values())
    rope = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [4, 6, 6]}
    config = Qwen2_5_VLConfig(
        text_config=language_fields(tokenizer) | {"rope_parameters": rope},
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 128,
            "patch_size": 14,
            "window_size": 56,
            "fullatt_block_indexes": [1],
            "initializer_range": WIDE,
        },
        **qwen_token_ids(tokenizer),
        tie_word_embeddings=True,
    )
    save_model(lambda: Qwen2_5_VLForConditionalGeneration(config), tokenizer, folder)
    pixels = {"shortest_edge": 4 * 28 * 28, "longest_edge": 16 * 28 * 28}
    Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=pixels),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(size=pixels),
        chat_template=_QWEN_TEMPLATE,
    ).save_pretrained(folder)


def build_llava(folder: Path) -> None:
    """A CLIP tower read one layer before its last, a projector, and Llama."""
    tokenizer = tokenizer_with("<image>")
    config = LlavaConfig(
        text_config=LlamaConfig(**language_fields(tokenizer)),
        vision_config=CLIPVisionConfig(
            **tower_fields(3),
            initializer_range=WIDE,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        image_seq_length=16,
    )
    save_model(lambda: LlavaForConditionalGeneration(config), tokenizer, folder)
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


def build_qwen3_vl(folder: Path) -> None:
    """Features of several layers of the tower, added to several of the language model."""
    tokenizer = tokenizer_with(*QWEN_TOKENS.values())
    config = Qwen3VLConfig(**qwen3_vl_fields(tokenizer), **qwen_token_ids(tokenizer))
    save_model(lambda: Qwen3VLForConditionalGeneration(config), tokenizer, folder)
    save_qwen3_processor(tokenizer, folder)


def qwen3_vl_fields(tokenizer: Qwen2Tokenizer) -> dict[str, Any]:
    """What configs of Qwen3-VL hold, whether or not it mixes experts."""
    rope = {
        "rope_type": "default",
        "rope_theta": 10_000.0,
        "mrope_section": [6, 5, 5],
        "mrope_interleaved": True,
    }
    vision = {
        "depth": 3,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "out_hidden_size": 128,
        "patch_size": 14,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0, 1],
        "initializer_range": WIDE,
    }
    return {
        "text_config": language_fields(tokenizer) | {"rope_parameters": rope},
        "vision_config": vision,
        "tie_word_embeddings": True,
    }


def save_qwen3_processor(tokenizer: Qwen2Tokenizer, folder: Path) -> None:
    """Of any Qwen3-VL."""
    pixels = {"shortest_edge": 4 * 28 * 28, "longest_edge": 16 * 28 * 28}
    Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=pixels, patch_size=14),
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(size=pixels, patch_size=14),
        chat_template=_QWEN_TEMPLATE,
    ).save_pretrained(folder)


def build_llava_onevision(folder: Path) -> None:
    """An image in tiles of the best fitting grid, unpadded, with a token behind each line."""
    tokenizer = tokenizer_with("<image>", "<video>")
    fields = language_fields(tokenizer)
    fields.pop("head_dim")
    grids = [[56, 56], [56, 112], [112, 56], [112, 112]]
    config = LlavaOnevisionConfig(
        text_config=Qwen2Config(**fields),
        vision_config=SiglipVisionConfig(
            **tower_fields(2),
        ),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=grids,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    save_model(lambda: LlavaOnevisionForConditionalGeneration(config), tokenizer, folder)
    _as_published(folder)
    size = {"height": 56, "width": 56}
    LlavaOnevisionProcessor(
        image_processor=LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=grids),
        tokenizer=tokenizer,
        video_processor=LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=CHAT_TEMPLATE.replace(IMAGE_TOKEN, "<image>"),
    ).save_pretrained(folder)


def build_glm4v(folder: Path) -> None:
    """Positions in three directions on a half of each head."""
    own = ("image", "video", "begin_of_image", "end_of_image", "begin_of_video", "end_of_video")
    tokenizer = tokenizer_with(*(f"<|{name}|>" for name in own))
    image, video, begin, end, begin_video, end_video = (
        tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in own
    )
    rope = {
        "rope_type": "default",
        "rope_theta": 10_000.0,
        "mrope_section": [2, 3, 3],
        "partial_rotary_factor": 0.5,
    }
    config = Glm4vConfig(
        # transformers reads queries with biases anyway; engines where the config says so.
        text_config=language_fields(tokenizer) | {"rope_parameters": rope, "attention_bias": True},
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 128,
            "patch_size": 14,
            "image_size": 112,
            "initializer_range": WIDE,
        },
        image_token_id=image,
        video_token_id=video,
        image_start_token_id=begin,
        image_end_token_id=end,
        video_start_token_id=begin_video,
        video_end_token_id=end_video,
    )
    save_model(lambda: Glm4vForConditionalGeneration(config), tokenizer, folder)
    pixels = {"shortest_edge": 4 * 28 * 28, "longest_edge": 2 * 16 * 28 * 28}
    Glm4vProcessor(
        image_processor=Glm4vImageProcessor(size=pixels),
        tokenizer=tokenizer,
        video_processor=Glm4vVideoProcessor(size=pixels),
        chat_template=CHAT_TEMPLATE.replace(
            IMAGE_TOKEN, "<|begin_of_image|><|image|><|end_of_image|>"
        ),
    ).save_pretrained(folder)
