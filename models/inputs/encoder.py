"""The one place where a problem or a chat becomes token ids and pixels.

The engine is given the short form (one image token an image) and expands it itself; the learner
works on the expanded form. Both come from the same text here, and the check before step 1 compares
them on real problems.
"""

import inspect
import json
from collections.abc import Collection, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from PIL import Image
from transformers import (
    AutoConfig,
    AutoProcessor,
    AutoTokenizer,
    InternVLProcessor,
    Qwen2_5_VLProcessor,
    Qwen2VLProcessor,
    Qwen3VLProcessor,
)

from configs.schema.data import PromptConfig
from models.inputs.assistant_format import AssistantFormat, assistant_format, masked_pieces
from rl.console.errors import as_user_error
from rl.data.images import DecodedImages, scaled_size, upright_size
from rl.data.records import Chat, Pair, Problem, TokenisedChat, Turn

IMAGE_MARK = "<image>"

_BY_COUNT = (InternVLProcessor, Qwen2VLProcessor, Qwen2_5_VLProcessor, Qwen3VLProcessor)
"""Processors that tell an image's number of tokens from its size, and by that all of its tokens."""


def has_vision(config: Any) -> bool:
    """Whether a transformers config is that of a model that reads images."""
    return hasattr(config, "vision_config")


class InputEncoder:
    """Chat template, tokenizer and image processor of one policy."""

    def __init__(self, folder: str | Path, prompt: PromptConfig, trust_remote_code: bool) -> None:
        """`folder`: a transformers checkpoint, local or by hub name.

        Raises:
            UserError: it has no config, processor or tokenizer that can be read.
        """
        trust = {"trust_remote_code": trust_remote_code}
        self._made_of = (folder, prompt, trust_remote_code)
        self._prompt = prompt
        self.max_pixels = prompt.max_pixels
        self.images = DecodedImages(prompt.max_pixels)
        self._expansions: dict[tuple[int, ...], tuple[int, ...]] = {}
        with as_user_error():
            self.has_vision = has_vision(AutoConfig.from_pretrained(folder, **trust))
            reader = AutoProcessor if self.has_vision else AutoTokenizer
            read: Any = reader.from_pretrained(folder, **trust)
        self.processor: Any = read if self.has_vision else None
        self.tokenizer: Any = read.tokenizer if self.has_vision else read

    def __reduce__(self) -> tuple[type["InputEncoder"], tuple[str | Path, PromptConfig, bool]]:
        """Pickled as what it was made of; another process reads the folder again."""
        return InputEncoder, self._made_of

    @cached_property
    def settings(self) -> str:
        """A digest of all that tokens and their number hang on: prompt settings, tokenizer, chat
        template, processor and, where they are the checkpoint's own code, that."""
        reader = self.processor if self.has_vision else self.tokenizer
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        words = backend.to_str() if backend else json.dumps(sorted(self.tokenizer.get_vocab()))
        parts = [self._prompt.model_dump_json(), words, str(reader.chat_template)]
        if self.has_vision:
            parts.append(json.dumps(self.processor.to_dict(), sort_keys=True, default=str))
        for kind in {type(reader), type(self.tokenizer)}:
            parts.append(Path(inspect.getfile(kind)).read_text("utf-8"))
        return sha256("\0".join(parts).encode()).hexdigest()

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
        return self._messages(_asked(problem))

    def _messages(self, turns: Sequence[Turn]) -> list[dict[str, Any]]:
        """Turns as chat messages, with the recipe's system message if there is none, its suffix."""
        system = self._prompt.system
        if system is not None and all(turn.role != "system" for turn in turns):
            turns = [Turn("system", system), *turns]
        return [{"role": turn.role, "content": self._content(turn)} for turn in turns]

    def _content(self, turn: Turn) -> str | list[dict[str, str]]:
        suffix = f"\n{self._prompt.suffix}" if self._prompt.suffix and turn.role == "user" else ""
        if not self.has_vision or turn.role != "user":
            return turn.text + suffix
        parts: list[dict[str, str]] = []
        for i, piece in enumerate(turn.text.split(IMAGE_MARK)):
            parts += [{"type": "image"}] if i > 0 else []
            parts += [{"type": "text", "text": piece}] if piece else []
        return parts + ([{"type": "text", "text": suffix}] if suffix else [])

    def _render(self, turns: Sequence[Turn], opened: bool) -> str:
        """The chat template's text of `turns`; `opened`: ready for an answer to begin.

        Raises:
            ValueError: the template refuses them.
        """
        template = self.processor if self.has_vision else self.tokenizer
        try:
            return template.apply_chat_template(
                self._messages(turns), tokenize=False, add_generation_prompt=opened
            )
        except TemplateError as error:
            raise ValueError(f"the chat template refuses the chat: {error}") from error

    def text(self, problem: Problem) -> str:
        """The chat template's text, ready for the answer to begin."""
        return self._render(_asked(problem), True)

    def rendered_prompt(self, question: str) -> str:
        """The chat template's text of a question without images, ready for the answer to begin."""
        return self._render([Turn("user", question)], True)

    def tokenise(self, text: str) -> tuple[int, ...]:
        """The ids of plain text, without anything before or behind it."""
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def short_ids(self, problem: Problem) -> tuple[int, ...]:
        """The prompt with one image token an image, as the engine takes it."""
        return self.tokenise(self.text(problem))

    def encode(self, problem: Problem) -> tuple[int, ...]:
        """The prompt with image tokens expanded, as the model reads it.

        What an image expands to depends on its size alone.

        Raises:
            ValueError: the prompt has more or fewer image tokens than the problem has images.
        """
        groups = self._expanded(self.short_ids(problem), problem.images, problem.question)
        return tuple(i for group in groups for i in group)

    def encode_chat(self, chat: Chat) -> TokenisedChat:
        """The chat with image tokens expanded, and which tokens the model has to say itself.

        Those are the learned turns, each from where its prompt ends to its end-of-turn token. A
        prompt and what follows it are tokenised apart, as they are when a model answers.

        Raises:
            ValueError: the chat template cannot show all learned turns as they would be answered,
                the tokens do not fit the images, or an answer spells an image token out.
        """
        pieces = masked_pieces(self._render, chat.turns, self._turn_style)
        parts = [self.tokenizer(text, add_special_tokens=False)["input_ids"] for text, _ in pieces]
        learned = [learn for part, (_, learn) in zip(parts, pieces, strict=True) for _ in part]
        short = tuple(i for part in parts for i in part)
        said = {i for i, learn in zip(short, learned, strict=True) if learn}
        for i in said.intersection(self.image_token_ids):
            token = self.tokenizer.convert_ids_to_tokens(i)
            raise ValueError(f"an answer spells {token!r} out, which only images may write")
        groups = self._expanded(short, chat.images, chat.turns[0].text)
        return TokenisedChat(
            ids=tuple(i for group in groups for i in group),
            loss_mask=tuple(
                learn for group, learn in zip(groups, learned, strict=True) for _ in group
            ),
        )

    @cached_property
    def _turn_style(self) -> AssistantFormat:
        return assistant_format(self._render, set(self._special.values()))

    def _expanded(
        self, short: Sequence[int], images: Sequence[bytes | str], said: str
    ) -> list[tuple[int, ...]]:
        """What each of `short` becomes; `said` is shown where they do not fit the images."""
        if not self.has_vision:
            return [(i,) for i in short]
        token = self.tokenizer.convert_tokens_to_ids(self.processor.image_token)
        if short.count(token) != len(images):
            raise ValueError(
                f"the prompt has {short.count(token)} image tokens for {len(images)} "
                f"images; it may neither spell {self.processor.image_token!r} out nor "
                f"mark more places than there are images: {said!r}"
            )
        sizes = iter([self._size(image) for image in images])
        return [self._expansion(next(sizes)) if i == token else (i,) for i in short]

    def _size(self, image: bytes | str) -> tuple[int, int]:
        return scaled_size(upright_size(image), self.max_pixels)

    def _expansion(self, size: tuple[int, int]) -> tuple[int, ...]:
        """What an image of (width, height) expands to. The processor is asked with a blank image,
        which takes a while where it cuts tiles, once for sizes that are known to expand alike."""
        alike: tuple[int, ...] = size
        if isinstance(self.processor, _BY_COUNT):
            counted = self.processor._get_num_multimodal_tokens(image_sizes=[size[::-1]])
            alike = tuple(counted.num_image_tokens)
        if alike not in self._expansions:
            made = self.processor(
                text=self.processor.image_token,
                images=[Image.new("RGB", size)],
                add_special_tokens=False,
            )
            self._expansions[alike] = tuple(made["input_ids"][0])
        return self._expansions[alike]

    def measure(self, problem: Problem) -> int:
        """Tokens of the expanded prompt.

        Raises:
            ValueError: the policy reads no images, the problem has more than the recipe allows, or
                their number is not that of the prompt's image tokens.
        """
        self._check_number(problem.images)
        return len(self.encode(problem))

    def encode_chats(self, item: Chat | Pair) -> tuple[TokenisedChat, ...]:
        """A chat by itself, or a pair's chosen and rejected one; see `encode_chat`."""
        if isinstance(item, Pair):
            return self.encode_chat(item.chosen), self.encode_chat(item.rejected)
        return (self.encode_chat(item),)

    def measure_chat(self, item: Chat | Pair) -> int:
        """Tokens of the whole chat, or of both of a pair. Raises as `measure`, `encode_chat` do."""
        self._check_number((item.chosen if isinstance(item, Pair) else item).images)
        return sum(len(chat.ids) for chat in self.encode_chats(item))

    def _check_number(self, images: Sequence[bytes | str]) -> None:
        if images and not self.has_vision:
            raise ValueError(
                "the policy reads text only; take another policy, or data without images"
                " (data.image_column=null)"
            )
        if len(images) > self._prompt.max_images:
            raise ValueError(
                f"{len(images)} images are more than prompt.max_images={self._prompt.max_images}"
            )

    def pixels(self, asked: Sequence[Problem | Chat | Pair]) -> dict[str, torch.Tensor]:
        """Vision inputs of all images of `asked`, in order; empty without images or a vision tower.

        The processor is called with image tokens only, so that its own defaults (tiling, size)
        hold, which its bare image processor does not know.
        """
        shown = [image for each in asked for image in each.images]
        if not shown or not self.has_vision:
            return {}
        images = [self.images.open(image) for image in shown]
        text = self.processor.image_token * len(images)
        made = self.processor(text=text, images=images, return_tensors="pt")
        drop = {"input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids"}
        return {name: value for name, value in made.items() if name not in drop}

    def image_tokens(self, image: bytes | str) -> int:
        """Tokens that carry this image; marks around and within it are not counted."""
        return self._expansion(self._size(image)).count(self.processor.image_token_id)

    def decode(self, token_ids: Sequence[int], keep: Collection[str] = ()) -> str:
        """Text of sampled ids without special tokens, but for those to `keep` (think tags)."""
        dropped = {i for i, token in self._special.items() if token not in keep}
        shown = [i for i in token_ids if i not in dropped]
        return self.tokenizer.decode(shown, skip_special_tokens=False)

    @cached_property
    def _special(self) -> dict[int, str]:
        added = self.tokenizer.added_tokens_decoder.items()
        return {i: token.content for i, token in added if token.special}


def _asked(problem: Problem) -> list[Turn]:
    """The problem as a chat; images without a mark come first."""
    before = problem.context
    marks = sum(turn.text.count(IMAGE_MARK) for turn in before) + problem.question.count(IMAGE_MARK)
    missing = IMAGE_MARK * (len(problem.images) - marks)
    return [*before, Turn("user", missing + problem.question)]
