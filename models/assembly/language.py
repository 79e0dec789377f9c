"""A language model as a part: its weights, its tokenizer with image tokens, its chat template."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import AutoConfig

from models.assembly.chat_template import placing_images
from models.assembly.image_tokens import IMAGE_TOKEN, SPECIAL_TOKENS
from models.assembly.processor import faithful_tokenizer
from models.assembly.shards import LazyTensor, Shards, local_folder
from rl.console.errors import UserError, as_user_error

FAMILIES = ("qwen2", "qwen3", "llama")
"""Decoder-only models whose names and blocks are those of Llama, which all code here relies on."""
_EMBEDDINGS, _HEAD = "model.embed_tokens.weight", "lm_head.weight"
_CHUNK = 4096
"""Embedding rows that are summed at a time."""


@dataclass(frozen=True, slots=True)
class Language:
    """A decoder-only language model whose tokenizer and template know images."""

    folder: Path
    config: Any
    """transformers' config, its vocabulary as large as the tokenizer needs."""
    tokenizer: Any
    """With the image tokens."""
    chat_template: str
    """Takes messages with image parts."""
    shards: Shards
    known_ids: tuple[int, ...]
    """Ids of the tokens it had."""
    added_ids: tuple[int, ...]
    """Ids of the image tokens that were added."""

    @property
    def image_token_id(self) -> int:
        """Id of the token whose embeddings image features replace."""
        return self.tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights."""
        return self.shards.dtypes[_EMBEDDINGS]

    def planned(self, new_rows: Literal["mean", "normal"], seed: int) -> dict[str, LazyTensor]:
        """All weights with rows for the added tokens; no head where it is tied to the embeddings.

        Args:
            new_rows: "mean" of the known rows, or drawn from a "normal" of their spread by `seed`.
        """
        plan: dict[str, LazyTensor] = {}
        for name in self.shards:
            if name == _HEAD and self.config.tie_word_embeddings:
                continue
            if name in (_EMBEDDINGS, _HEAD):
                plan[name] = self._grown(name, new_rows, seed)
            else:
                plan[name] = self.shards.planned(name)
        return plan

    def _grown(self, name: str, new_rows: Literal["mean", "normal"], seed: int) -> LazyTensor:
        old = self.shards.planned(name)
        size = self.config.vocab_size

        def make() -> Tensor:
            rows = old.make()
            if not self.added_ids:
                return rows
            known = torch.tensor(self.known_ids)
            mean, std = _moments(rows, known[known < len(rows)])
            grown = rows.new_zeros(size, old.shape[1])
            grown[: len(rows)] = rows
            drawn = torch.Generator().manual_seed(seed)
            for token in self.added_ids:
                noise = torch.randn(len(mean), generator=drawn, dtype=torch.float64)
                grown[token] = (mean if new_rows == "mean" else noise * std).to(rows.dtype)
            return grown

        return LazyTensor((size, old.shape[1]), old.dtype, make)


def _moments(rows: Tensor, known: Tensor) -> tuple[Tensor, float]:
    """Of rows [V, H]: the mean of the rows `known` (int64 [n]), float64 [H], and the standard
    deviation of their entries."""
    total = torch.zeros(rows.shape[1], dtype=torch.float64)
    squares = 0.0
    for ids in known.split(_CHUNK):
        chunk = rows[ids].double()
        total += chunk.sum(0)
        squares += float(chunk.square().sum())
    count = max(1, len(known))
    mean = total / count
    spread = squares / count / rows.shape[1] - float(mean.mean()) ** 2
    return mean, max(0.0, spread) ** 0.5


@as_user_error()
def read_language(source: Path | str) -> Language:
    """The language model in a folder or on the hub.

    Raises:
        ValueError: it is of another kind, quantised, not in safetensors, or has no chat template.
    """
    folder = local_folder(source)
    config = AutoConfig.from_pretrained(folder)
    if config.model_type not in FAMILIES:
        raise UserError(
            f"{source} is a {config.model_type!r} model; a language model must be one of "
            f"{', '.join(FAMILIES)}"
        )
    shards = Shards(folder)
    if _EMBEDDINGS not in shards:
        raise UserError(
            f"{source} has no {_EMBEDDINGS}; save the model with its head (AutoModelForCausalLM)"
        )
    known = faithful_tokenizer(folder)
    before = known.get_vocab()
    if not known.chat_template:
        raise UserError(
            f"the tokenizer of {source} has no chat template; save one as chat_template.jinja in "
            "the model's folder"
        )
    tokenizer = faithful_tokenizer(folder, extra_special_tokens=SPECIAL_TOKENS)
    added = {tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS.values()}
    added -= set(before.values())
    config.vocab_size = max(config.vocab_size, max(tokenizer.get_vocab().values()) + 1)
    return Language(
        folder=folder,
        config=config,
        tokenizer=tokenizer,
        chat_template=placing_images(known.chat_template),
        shards=shards,
        known_ids=tuple(sorted(set(before.values()))),
        added_ids=tuple(sorted(added)),
    )
