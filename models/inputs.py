"""The one place where a problem becomes token ids and pixels.

The engine is given the short form (one image token an image) and expands it itself; the learner
works on the expanded form. Both come from the same text here, and the check before step 1 compares
them on real problems.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoConfig, AutoProcessor, AutoTokenizer

from configs.schema import PromptConfig
from rl.images import open_image
from rl.records import Problem

IMAGE_MARK = "<image>"


class InputEncoder:
    """Chat template, tokenizer and image processor of one policy."""

    def __init__(self, folder: str | Path, prompt: PromptConfig, trust_remote_code: bool) -> None:
        """`folder`: a transformers checkpoint, local or by hub name."""
        trust = {"trust_remote_code": trust_remote_code}
        config = AutoConfig.from_pretrained(folder, **trust)
        self.has_vision = hasattr(config, "vision_config")
        self._prompt = prompt
        self._expansions: dict[tuple[int, int], tuple[int, ...]] = {}
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

    def short_ids(self, problem: Problem) -> tuple[int, ...]:
        """The prompt with one image token an image, as the engine takes it."""
        return tuple(self.tokenizer(self.text(problem), add_special_tokens=False)["input_ids"])

    def encode(self, problem: Problem) -> tuple[int, ...]:
        """The prompt with image tokens expanded, as the model reads it.

        What an image expands to depends on its size alone, so the processor is asked once a size.

        Raises:
            ValueError: the prompt has more or fewer image tokens than the problem has images.
        """
        short = self.short_ids(problem)
        if not self.has_vision:
            return short
        token = self.tokenizer.convert_tokens_to_ids(self.processor.image_token)
        if short.count(token) != len(problem.images):
            raise ValueError(
                f"the prompt has {short.count(token)} image tokens for {len(problem.images)} "
                f"images; the question may neither spell {self.processor.image_token!r} out nor "
                f"mark more places than there are images: {problem.question!r}"
            )
        sizes = iter([open_image(image).size for image in problem.images])
        parts = [self._expansion(next(sizes)) if i == token else (i,) for i in short]
        return tuple(i for part in parts for i in part)

    def _expansion(self, size: tuple[int, int]) -> tuple[int, ...]:
        if size not in self._expansions:
            made = self.processor(
                text=self.processor.image_token,
                images=[Image.new("RGB", size)],
                add_special_tokens=False,
            )
            self._expansions[size] = tuple(made["input_ids"][0])
        return self._expansions[size]

    def measure(self, problem: Problem) -> int:
        """Tokens of the expanded prompt.

        Raises:
            ValueError: the policy reads no images, the problem has more than the recipe allows, or
                their number is not that of the prompt's image tokens.
        """
        if problem.images and not self.has_vision:
            raise ValueError(
                "the policy reads text only; take another policy, or set data.image_column=null"
            )
        if len(problem.images) > self._prompt.max_images:
            raise ValueError(
                f"{len(problem.images)} images are more than prompt.max_images="
                f"{self._prompt.max_images}"
            )
        return len(self.encode(problem))

    def pixels(self, problems: Sequence[Problem]) -> dict[str, torch.Tensor]:
        """Vision inputs of all images of `problems`, in order; empty without images.

        The processor is called with image tokens only, so that its own defaults (tiling, size)
        hold, which its bare image processor does not know.
        """
        images = [open_image(image) for problem in problems for image in problem.images]
        if not images:
            return {}
        text = self.processor.image_token * len(images)
        made = self.processor(text=text, images=images, return_tensors="pt")
        drop = {"input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids"}
        return {name: value for name, value in made.items() if name not in drop}

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of sampled ids, special tokens left out (think tags are ordinary tokens)."""
        return self.tokenizer.decode(token_ids, skip_special_tokens=True)
