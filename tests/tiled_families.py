"""Tiny models that read an image as tiles of one size, other than the laptop's own."""

from pathlib import Path

from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    Idefics3VisionConfig,
    InternVLConfig,
    InternVLForConditionalGeneration,
    LlamaConfig,
    Qwen2Tokenizer,
    Qwen3Config,
)

from models.assembly.image_tokens import IMAGE_TOKEN
from models.tiny.model import CHAT_TEMPLATE
from tests.family_parts import WIDE, language_fields, save_model, tokenizer_with, tower_fields
from tests.vision_families import build_tiled_internvl


def build_internvl3_5(folder: Path) -> None:
    """InternVL's tower and tiles, and a Qwen3 for its language model."""
    build_tiled_internvl(folder)
    tokenizer = Qwen2Tokenizer.from_pretrained(folder)
    config = InternVLConfig.from_pretrained(folder)
    config.text_config = Qwen3Config(**language_fields(tokenizer))
    save_model(lambda: InternVLForConditionalGeneration(config), tokenizer, folder)


def build_idefics3(folder: Path) -> None:
    """SmolVLM's architecture: tiles marked by row and column, four tokens each, and a Llama."""
    places = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    marks = ("<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>")
    tokenizer = tokenizer_with(*marks, *places)
    config = Idefics3Config(
        text_config=LlamaConfig(**language_fields(tokenizer)),
        vision_config=Idefics3VisionConfig(
            **tower_fields(2),
            initializer_range=WIDE,
        ),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    save_model(lambda: Idefics3ForConditionalGeneration(config), tokenizer, folder)
    Idefics3Processor(
        image_processor=Idefics3ImageProcessor(
            size={"longest_edge": 112}, max_image_size={"longest_edge": 56}
        ),
        tokenizer=tokenizer,
        image_seq_len=4,
        chat_template=CHAT_TEMPLATE.replace(IMAGE_TOKEN, "<image>"),
    ).save_pretrained(folder)
