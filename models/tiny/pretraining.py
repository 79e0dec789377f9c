"""Pretrains the laptop's parts: a vision tower that knows digits, language models that can add.

In minutes, in plain torch: the tower on pictures alone, the language models on words alone, so that
only a projector joins the two. Each function is a generator of each step's loss (nats), and writes
the part when it ends.

Axis legend: B pictures or lines, Q quadrants, T tokens, H width.
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
    """How a part is trained."""

    steps: int
    """Updates."""
    batch: int
    """Pictures, or lines of text, an update."""
    seed: int
    """Of weights, drawings and lines."""
    lr: float = _PEAK_LR
    """Peak learning rate of a cosine schedule."""
    layers: int = TinySize().layers
    """Layers of a language model."""


def pretrained_tower(folder: Path, config: PretrainConfig) -> Iterator[float]:
    """Train a vision tower to name the digit in each quadrant; write it with its image processor.

    The classifier reads the projector's input: patches folded two by two, normalised. No drawing is
    shown twice.
    """
    size = TinySize()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        tower = tiny_tower(size)
        width = 4 * size.vision_hidden
        head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, EMPTY + 1))
    learner = _Learner([*tower.parameters(), *head.parameters()], config)
    rng = np.random.default_rng(config.seed)
    for _ in range(config.steps):
        pictures, labels_BQ = drawn_digits("train", config.batch, rng, Drawing())
        logits_BQ = head(_folded(tower, tiny_pixels(pictures)))
        yield learner.step(
            F.cross_entropy(logits_BQ.flatten(0, 1), torch.from_numpy(labels_BQ).flatten())
        )
    with atomic_folder(folder) as aside:
        tower.save_pretrained(aside)
        tiny_image_processor(size).save_pretrained(aside)


def pretrained_language(
    folder: Path,
    config: PretrainConfig,
    styles: Mapping[AnswerStyle, float],
    parent: Path | None = None,
) -> Iterator[float]:
    """Train a language model on digits that a question names and on pictures told in words.

    Args:
        folder: where it is written.
        styles: the share of each answer style; they add up to 1.
        parent: folder of the model that it starts from; None: random weights.
    """
    with atomic_folder(folder) as aside:
        build_tiny_text(aside, config.seed, TinySize(layers=config.layers))
        tokenizer = AutoTokenizer.from_pretrained(aside)
        model = AutoModelForCausalLM.from_pretrained(parent or aside, dtype=torch.float32)
        learner = _Learner(list(model.parameters()), config)
        rng = np.random.default_rng(config.seed)
        for _ in range(config.steps):
            lines = language_lines(tokenizer, config.batch, rng, styles)
            yield learner.step(_answer_loss(model, lines, tokenizer.pad_token_id))
        model.save_pretrained(aside)


def language_lines(
    tokenizer: Any, count: int, rng: np.random.Generator, styles: Mapping[AnswerStyle, float]
) -> list[Line]:
    """`count` questions about random digits with answers in random `styles`, as token ids."""
    asked: list[str] = []
    said: list[str] = []
    for style in rng.choice(list(styles), size=count, p=list(styles.values())):
        digits = rng.integers(0, 10, size=rng.integers(2, MOST_DIGITS + 1)).tolist()
        pictured = style == "list" or bool(rng.integers(2))
        wording = int(rng.integers(NUM_WORDINGS))
        question = LIST if style == "list" else sum_question(digits, wording, pictured=pictured)
        shown = picture_in_words(digits) if pictured else ""
        message = {"role": "user", "content": shown + question}
        asked.append(
            tokenizer.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
        )
        said.append(answer_text(digits, style) + tokenizer.eos_token)
    prompts, answers = (tokenizer(t, add_special_tokens=False)["input_ids"] for t in (asked, said))
    return list(zip(prompts, answers, strict=True))


def _answer_loss(model: Any, lines: Sequence[Line], pad_id: int) -> Tensor:
    """Mean cross-entropy of all answer tokens, nats, float32 [].

    Short and long lines go in two passes, since chains are twice as long as other answers.
    """
    by_length = sorted(lines, key=lambda line: len(line[0]) + len(line[1]))
    middle = len(by_length) // 2
    total = torch.zeros(())
    for half in (by_length[:middle], by_length[middle:]):
        if half:
            total = total + _loss_sum(model, half, pad_id)
    return total / sum(len(answer) for _, answer in lines)


def _loss_sum(model: Any, lines: Sequence[Line], pad_id: int) -> Tensor:
    """Cross-entropy of the answer tokens in one padded pass, nats, float32 []."""
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
    """Features of each quadrant's patches side by side: float32 [B, 3, S, S] to
    [B, Q, 4 * width], in reading order."""
    patches = tower(pixel_values=pixels).last_hidden_state[:, 1:]
    half = math.isqrt(patches.shape[1]) // 2
    square = patches.reshape(len(patches), half, 2, half, 2, -1)
    return square.transpose(2, 3).reshape(len(patches), half * half, -1)


class _Learner:
    """AdamW with warm-up and a cosine schedule, gradients clipped to norm 1."""

    def __init__(self, weights: list[nn.Parameter], config: PretrainConfig) -> None:
        self._weights = weights
        self._adam = torch.optim.AdamW(weights, lr=config.lr, betas=(0.9, 0.95), weight_decay=0.05)
        rise = max(1, round(_WARMUP_SHARE * config.steps))

        def share(step: int) -> float:
            wave = 0.5 * (1 + math.cos(math.pi * step / config.steps))
            return min((step + 1) / rise, wave)

        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._adam, share)

    def step(self, loss: Tensor) -> float:
        """One update by `loss`, a scalar; returns its value."""
        self._adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._weights, 1.0)
        self._adam.step()
        self._schedule.step()
        return loss.item()
