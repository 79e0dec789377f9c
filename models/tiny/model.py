"""The laptop's policies: a whole R1V of about a million parameters, and a text-only one.

Everything is made here from nothing but a seed, tokenizer and chat template included, and saved in
the ordinary Hugging Face layout, so that transformers and vLLM take it for any other checkpoint.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import AddedToken, pre_tokenizers, trainers
from torch import Tensor
from transformers import (
    GenerationConfig,
    GotOcr2ImageProcessor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    InternVLVisionModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2Tokenizer,
)

from models.assembly.image_tokens import IMAGE_TOKEN, SPECIAL_TOKENS
from models.assembly.processor import image_processor, processor
from rl.digits.wording import EXAMPLES, SENTENCES

_START, _END, _PAD = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
_SPECIAL = (_PAD, _START, _END, *SPECIAL_TOKENS.values())
_THINK = ("<think>", "</think>")

# Mean and spread of the built-in pictures, so that blank paper comes to nearly nothing.
_PAPER, _INK = 0.9, 0.2
# Narrow layers need wider weights than the 0.02 of billion-parameter models to carry a signal.
_INIT = 0.06

CHAT_TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% if message.content is string -%}
{{ message.content }}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type in ("image", "image_url") -%}
@IMAGE@
{%- elif part.type == "text" -%}
{{ part.text }}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% endif -%}
""".replace("@IMAGE@", IMAGE_TOKEN)


@dataclass(frozen=True, slots=True)
class TinySize:
    """The widths and depths of a laptop policy."""

    hidden: int = 128
    """Width of the language model."""
    layers: int = 3
    """Layers of the language model."""
    heads: int = 4
    """Attention heads of the language model."""
    mlp: int = 256
    """Inner width of the language model's MLPs."""
    vision_hidden: int = 64
    """Width of the vision tower."""
    vision_layers: int = 3
    """Layers of the vision tower."""
    vision_heads: int = 2
    """Attention heads of the vision tower."""
    image: int = 56
    """Side of a tile, pixels."""
    patch: int = 14
    """Side of a patch, pixels; four patches make an image token."""
    context: int = 512
    """Longest sequence, tokens."""

    @property
    def image_tokens(self) -> int:
        """Image tokens of a tile."""
        return (self.image // self.patch // 2) ** 2


def build_tiny_vlm(folder: Path, seed: int, size: TinySize | None = None) -> None:
    """Save an untrained R1V (InternVL tower, projector, Qwen2) with its processor in `folder`.

    The same seed gives the same weights. The caller's random state is left as it was.
    """
    size = size or TinySize()
    tokenizer = tiny_tokenizer()
    config = InternVLConfig(
        vision_config=_vision_config(size),
        text_config=_text_config(size, tokenizer),
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        image_seq_length=size.image_tokens,
        downsample_ratio=0.5,
        tie_word_embeddings=True,
    )
    images = tiny_image_processor(size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = InternVLForConditionalGeneration(config)
        _tell_places_apart(model.model.vision_tower)
    model.generation_config = _generation_config(tokenizer)
    model.save_pretrained(folder)
    processor(images, tokenizer, size.image_tokens, CHAT_TEMPLATE).save_pretrained(folder)


def tiny_tower(size: TinySize) -> InternVLVisionModel:
    """An untrained vision tower, drawn from torch's random state."""
    tower = InternVLVisionModel(_vision_config(size))
    _tell_places_apart(tower)
    return tower


def tiny_image_processor(size: TinySize) -> GotOcr2ImageProcessor:
    """Makes one tile of any picture."""
    return image_processor(size.image, (1, 1), (_PAPER,) * 3, (_INK,) * 3)


def tiny_pixels(pictures: NDArray[np.uint8]) -> Tensor:
    """What that processor makes of grey pictures uint8 [N, S, S] of a tile's size, but in one go:
    float32 [N, 3, S, S]."""
    grey = (torch.from_numpy(pictures).float() / 255 - _PAPER) / _INK
    return grey[:, None].repeat(1, 3, 1, 1)


def build_tiny_text(folder: Path, seed: int, size: TinySize | None = None) -> None:
    """Save an untrained Qwen2 with the same tokenizer and chat template in `folder`.

    The same seed gives the same weights. The caller's random state is left as it was.
    """
    tokenizer = tiny_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(_text_config(size or TinySize(), tokenizer))
    model.generation_config = _generation_config(tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def tiny_tokenizer() -> Qwen2Tokenizer:
    """A Qwen2 tokenizer that knows the built-in problems' words and spells out all else in bytes.

    Digits are single tokens. The think tags are plain tokens, not special ones, so that they stay
    in decoded text, where rewards look for them.
    """
    # transformers and vLLM read any tokenizer beside a Qwen2 model as Qwen2's, with Qwen2's way of
    # cutting text into words, so it must be one.
    trainer = trainers.BpeTrainer(
        vocab_size=1024,  # never reached: merging ends when each word below is one token
        special_tokens=list(_SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = (*SENTENCES, *EXAMPLES, "system\n", "user\n", "assistant\n")
    untagged = [text.replace("<think>", "\n").replace("</think>", "\n") for text in texts]
    trained = Qwen2Tokenizer().backend_tokenizer
    trained.train_from_iterator(untagged, trainer)
    bpe = json.loads(trained.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=bpe["vocab"],
        merges=[tuple(merge) for merge in bpe["merges"]],
        unk_token=_PAD,
        eos_token=_END,
        pad_token=_PAD,
        extra_special_tokens=SPECIAL_TOKENS,
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
    )
    tokenizer.add_tokens([AddedToken(_START, special=True)])
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in _THINK])
    return tokenizer


def _vision_config(size: TinySize) -> InternVLVisionConfig:
    return InternVLVisionConfig(
        hidden_size=size.vision_hidden,
        num_hidden_layers=size.vision_layers,
        num_attention_heads=size.vision_heads,
        intermediate_size=4 * size.vision_hidden,
        image_size=(size.image, size.image),
        patch_size=(size.patch, size.patch),
        attention_bias=True,
        initializer_range=_INIT,
        layer_scale_init_value=1.0,  # the usual 0.1 is for towers of dozens of layers
    )


def _tell_places_apart(tower: InternVLVisionModel) -> None:
    """transformers starts places at zero; told apart from the first step, they are learned from."""
    torch.nn.init.normal_(tower.embeddings.position_embeddings, std=0.5)


def _text_config(size: TinySize, tokenizer: Qwen2Tokenizer) -> Qwen2Config:
    return Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden,
        intermediate_size=size.mlp,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        max_position_embeddings=size.context,
        tie_word_embeddings=True,
        initializer_range=_INIT,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _generation_config(tokenizer: Qwen2Tokenizer) -> GenerationConfig:
    return GenerationConfig(
        do_sample=True,
        temperature=1.0,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
