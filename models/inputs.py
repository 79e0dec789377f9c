"""The one place where a problem becomes token ids and pixels.

The engine is given the short form (one image token an image) and expands it itself; the learner
works on the expanded form. Both come from the same text here, and the check before step 1 compares
them on real problems.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoConfig, AutoProcessor, AutoTokenizer

from configs.schema import PromptConfig
from rl.records import Problem

IMAGE_MARK = "<image>"


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt in both forms."""

    short_ids: tuple[int, ...]
    """One image token an image, as the engine takes it."""
    token_ids: tuple[int, ...]
    """Image tokens expanded, as the model reads it."""


def load_image(image: bytes | str) -> Image.Image:
    """The RGB picture behind encoded bytes or a path. Raises OSError when it cannot be read."""
    source = io.BytesIO(image) if isinstance(image, bytes) else image
    with Image.open(source) as opened:
        return opened.convert("RGB")


class InputEncoder:
    """Chat template, tokenizer and image processor of one policy."""

    def __init__(self, folder: str | Path, prompt: PromptConfig, trust_remote_code: bool) -> None:
        """`folder`: a transformers checkpoint, local or by hub name."""
        trust = {"trust_remote_code": trust_remote_code}
        config = AutoConfig.from_pretrained(folder, **trust)
        self.has_vision = hasattr(config, "vision_config")
        self._prompt = prompt
        if self.has_vision:
            self.processor: Any = AutoProcessor.from_pretrained(folder, **trust)
            self.tokenizer: Any = self.processor.tokenizer
        else:
            self.processor = None
            self.tokenizer = AutoTokenizer.from_pretrained(folder, **trust)

    @property
    def pad_id(self) -> int:
        """Id that fills rows up; it is always masked, so any id will do."""
        pad = self.tokenizer.pad_token_id
        return self.tokenizer.eos_token_id if pad is None else pad

    @property
    def image_token_ids(self) -> tuple[int, ...]:
        """Ids that only the image expansion may write; a policy that samples one breaks itself."""
        if not self.has_vision:
            return ()
        ids = getattr(self.processor, "image_token_ids", None) or [self.processor.image_token_id]
        return tuple(sorted({int(i) for i in ids if i is not None}))

    def messages(self, problem: Problem) -> list[dict[str, Any]]:
        """The problem as chat messages with image parts, images where the question marks them."""
        question = problem.question
        missing = len(problem.images) - question.count(IMAGE_MARK)
        pieces = (IMAGE_MARK * missing + question).split(IMAGE_MARK)
        parts: list[dict[str, str]] = []
        for i, piece in enumerate(pieces):
            parts += [{"type": "image"}] if i > 0 else []
            parts += [{"type": "text", "text": piece}] if piece else []
        if self._prompt.suffix:
            parts.append({"type": "text", "text": f"\n{self._prompt.suffix}"})
        user: dict[str, Any] = {"role": "user", "content": parts}
        if not self.has_vision:
            user["content"] = "".join(part["text"] for part in parts)
        if self._prompt.system is None:
            return [user]
        return [{"role": "system", "content": self._prompt.system}, user]

    def text(self, problem: Problem) -> str:
        """The chat template's text, ready for the answer to begin."""
        template = self.processor if self.has_vision else self.tokenizer
        return template.apply_chat_template(
            self.messages(problem), tokenize=False, add_generation_prompt=True
        )

    def encode(self, problem: Problem) -> Prompt:
        """Both forms of the prompt. Raises OSError when an image cannot be read."""
        text = self.text(problem)
        short = tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        if not problem.images:
            return Prompt(short, short)
        images = [load_image(image) for image in problem.images]
        full = self.processor(text=text, images=images, add_special_tokens=False)
        return Prompt(short, tuple(full["input_ids"][0]))

    def measure(self, problem: Problem) -> int:
        """Tokens of the expanded prompt; needs the images' sizes only, where the processor can."""
        count = getattr(self.processor, "_get_num_multimodal_tokens", None)
        if not problem.images or count is None:
            return len(self.encode(problem).token_ids)
        short = self.tokenizer(self.text(problem), add_special_tokens=False)["input_ids"]
        sizes = [load_image(image).size[::-1] for image in problem.images]
        return len(short) - len(sizes) + sum(count(image_sizes=sizes).num_image_tokens)

    def pixels(self, problems: Sequence[Problem]) -> dict[str, torch.Tensor]:
        """Vision inputs of all images of `problems`, in order; empty without images.

        The processor is called with image tokens only, so that its own defaults (tiling, size)
        hold, which its bare image processor does not know.
        """
        images = [load_image(image) for problem in problems for image in problem.images]
        if not images:
            return {}
        text = self.processor.image_token * len(images)
        made = self.processor(text=text, images=images, return_tensors="pt")
        drop = {"input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids"}
        return {name: value for name, value in made.items() if name not in drop}

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of sampled ids, special tokens left out (think tags are ordinary tokens)."""
        return self.tokenizer.decode(token_ids, skip_special_tokens=True)
