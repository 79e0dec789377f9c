"""The laptop's ingredients: a vision tower that knows digits, and language models that can add.

Real runs take their parts from the hub. These are pretrained here in minutes, in plain torch: the
tower on drawn scans alone, the language models on words alone, so that nothing has joined the two
before a projector does. Each function is a generator that yields the loss of each step; the part is
written when it ends.

Axis legend: B pictures or lines, Q quadrants, T tokens.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, InternVLVisionModel

from models.tiny.model import (
    TinySize,
    build_tiny_text,
    tiny_image_processor,
    tiny_pixels,
    tiny_tower,
)
from rl.digits.problems import EMPTY, Drawing, drawn_digits
from rl.digits.wording import (
    LIST,
    MOST_DIGITS,
    NUM_WORDINGS,
    AnswerStyle,
    answer_text,
    picture_in_words,
    sum_question,
)
from rl.storage.atomic import atomic_folder

_PEAK_LR = 2e-3
"""For weights drawn at random; narrow layers bear it."""
_WARMUP_SHARE = 0.05
_IGNORED = -100

Line = tuple[list[int], list[int]]
"""Token ids of a prompt and of its answer."""


@dataclass(frozen=True, slots=True)
class PretrainConfig:
    """How long a part learns."""

    steps: int
    """Updates."""
    batch: int
    """Pictures, or lines of text, an update."""
    seed: int
    """Decides weights, drawings and lines."""
    lr: float = _PEAK_LR
    """Peak learning rate of one cosine."""


def pretrained_tower(folder: Path, lessons: PretrainConfig) -> Iterator[float]:
    """Teach a vision tower to name the digit in each quadrant; write it with its image processor.

    The classifier reads what a projector will read: patches folded two by two, normalised. Every
    picture is drawn afresh, so that no drawing is seen twice.
    """
    size = TinySize()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(lessons.seed)
        tower = tiny_tower(size)
        width = 4 * size.vision_hidden
        head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, EMPTY + 1))
    learner = _Learner([*tower.parameters(), *head.parameters()], lessons)
    rng = np.random.default_rng(lessons.seed)
    for _ in range(lessons.steps):
        pictures, labels_BQ = drawn_digits("train", lessons.batch, rng, Drawing())
        logits_BQ = head(_folded(tower, tiny_pixels(pictures)))
        yield learner.step(
            F.cross_entropy(logits_BQ.flatten(0, 1), torch.from_numpy(labels_BQ).flatten())
        )
    with atomic_folder(folder) as aside:
        tower.save_pretrained(aside)
        tiny_image_processor(size).save_pretrained(aside)


def pretrained_language(
    folder: Path,
    lessons: PretrainConfig,
    manners: Mapping[AnswerStyle, float],
    parent: Path | None = None,
) -> Iterator[float]:
    """Teach a language model to answer in these manners, as often as their shares say; write it.

    It is asked of digits that a question names, and of pictures told in words.

    Args:
        folder: where it is written.
        lessons: how long it learns.
        manners: shares, which add up to 1.
        parent: folder of the model that it descends from; None: a blank one.
    """
    with atomic_folder(folder) as aside:
        build_tiny_text(aside, lessons.seed)
        tokenizer = AutoTokenizer.from_pretrained(aside)
        model = AutoModelForCausalLM.from_pretrained(parent or aside, dtype=torch.float32)
        learner = _Learner(list(model.parameters()), lessons)
        rng = np.random.default_rng(lessons.seed)
        for _ in range(lessons.steps):
            lines = language_lines(tokenizer, lessons.batch, rng, manners)
            yield learner.step(_answer_loss(model, lines, tokenizer.pad_token_id))
        model.save_pretrained(aside)


def language_lines(
    tokenizer: Any, count: int, rng: np.random.Generator, manners: Mapping[AnswerStyle, float]
) -> list[Line]:
    """Questions about digits drawn by lot, answered in these manners, as token ids."""
    asked: list[str] = []
    said: list[str] = []
    for manner in rng.choice(list(manners), size=count, p=list(manners.values())):
        digits = rng.integers(0, 10, size=rng.integers(2, MOST_DIGITS + 1)).tolist()
        pictured = manner == "list" or bool(rng.integers(2))
        wording = int(rng.integers(NUM_WORDINGS))
        question = LIST if manner == "list" else sum_question(digits, wording, pictured=pictured)
        shown = picture_in_words(digits) if pictured else ""
        message = {"role": "user", "content": shown + question}
        asked.append(
            tokenizer.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
        )
        said.append(answer_text(digits, manner) + tokenizer.eos_token)
    prompts, answers = (tokenizer(t, add_special_tokens=False)["input_ids"] for t in (asked, said))
    return list(zip(prompts, answers, strict=True))


def _answer_loss(model: Any, lines: Sequence[Line], pad_id: int) -> Tensor:
    """Mean cross-entropy of all answer tokens, nats.

    Chains are more than twice as long as other answers, so that lines go in two passes, short ones
    and long ones: less of it is padding.
    """
    by_length = sorted(lines, key=lambda line: len(line[0]) + len(line[1]))
    middle = len(by_length) // 2
    total = torch.zeros(())
    for half in (by_length[:middle], by_length[middle:]):
        if half:
            total = total + _loss_sum(model, half, pad_id)
    return total / sum(len(answer) for _, answer in lines)


def _loss_sum(model: Any, lines: Sequence[Line], pad_id: int) -> Tensor:
    width = max(len(prompt) + len(answer) for prompt, answer in lines)
    ids_BT = torch.full((len(lines), width), pad_id)
    labels_BT = torch.full((len(lines), width), _IGNORED)
    for row, (prompt, answer) in enumerate(lines):
        end = len(prompt) + len(answer)
        ids_BT[row, :end] = torch.tensor(prompt + answer)
        labels_BT[row, len(prompt) : end] = torch.tensor(answer)
    hidden_BTH = model.model(input_ids=ids_BT, use_cache=False)[0][:, :-1]
    counts_BT = labels_BT[:, 1:] != _IGNORED
    logits = model.lm_head(hidden_BTH[counts_BT])
    return F.cross_entropy(logits, labels_BT[:, 1:][counts_BT], reduction="sum")


def _folded(tower: InternVLVisionModel, pixels: Tensor) -> Tensor:
    """Features of each quadrant's patches side by side: [B, Q, 4 * width], in reading order."""
    patches = tower(pixel_values=pixels).last_hidden_state[:, 1:]
    half = math.isqrt(patches.shape[1]) // 2
    square = patches.reshape(len(patches), half, 2, half, 2, -1)
    return square.transpose(2, 3).reshape(len(patches), half * half, -1)


class _Learner:
    """AdamW under one cosine with a short rise, gradients clipped to norm 1."""

    def __init__(self, weights: list[nn.Parameter], lessons: PretrainConfig) -> None:
        self._weights = weights
        self._adam = torch.optim.AdamW(weights, lr=lessons.lr, betas=(0.9, 0.95), weight_decay=0.05)
        rise = max(1, round(_WARMUP_SHARE * lessons.steps))

        def share(step: int) -> float:
            wave = 0.5 * (1 + math.cos(math.pi * step / lessons.steps))
            return min((step + 1) / rise, wave)

        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._adam, share)

    def step(self, loss: Tensor) -> float:
        """Go down `loss` once; returns its value."""
        self._adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._weights, 1.0)
        self._adam.step()
        self._schedule.step()
        return loss.item()
