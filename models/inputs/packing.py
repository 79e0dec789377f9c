"""Micro-batches as tensors: answers behind their shared prompt, or chats one behind another.

Axes: B rows, T tokens of the longest row, N trained tokens over all rows.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import chain, count
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rl.algorithms.rows import MicroBatch, TrainingRow
from rl.data.records import TeacherTokens, TokenisedChat

Pixels = dict[str, Tensor]
"""Vision inputs by the names that the model takes them by."""


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """One micro-batch, ready for the model and the loss."""

    input_ids: Tensor
    """int64 [B, T]."""
    position_ids: Tensor
    """int64 [B, T]; each answer goes on from its prompt, each chat starts at 0."""
    in_prompt: Tensor
    """bool [B, T]; True where a token belongs to its row's prompt, or to a chat."""
    segments: Tensor
    """int64 [B, T]; 0 is the row's prompt, which all of the row sees, k > 0 its k-th answer or
    chat, -1 padding."""
    sources: Tensor
    """int64 [N]: index into B*T of the position that predicts each trained token."""
    targets: Tensor
    """int64 [N]: the trained tokens."""
    answers: Tensor
    """int64 [N]: which answer of the step, or which chat of the batch, each belongs to."""
    weights: Tensor
    """float32 [N]: 1, or 0 for filler."""
    advantages: Tensor | None = None
    """float32 [N]; None for chats."""
    loss_weights: Tensor | None = None
    """float32 [N]: what the loss of each token counts; None for chats, all of whose count 1."""
    sampler_logprobs: Tensor | None = None
    """float32 [N] nats; None for supervised targets."""
    old_logprobs: Tensor | None = None
    """float32 [N] nats, the learner's before the step's first update; None: it is that one."""
    reference_logprobs: Tensor | None = None
    """float32 [N] nats; None without a reference policy."""
    teacher_logprobs: Tensor | None = None
    """float32 [N] nats; None without a teacher."""
    teacher_ids: Tensor | None = None
    """int64 [N, K]: the teacher's likeliest tokens; None without a teacher."""
    teacher_top_logprobs: Tensor | None = None
    """float32 [N, K] nats, of those."""
    experts: Tensor | None = None
    """int16 [B, T, layers, K]: whom the sampler sent each token to, -1 where nobody knows; None
    without a mixture of experts whose choices are replayed."""
    pixels: Pixels = field(default_factory=dict)
    """The processor's tensors for the rows' images in order, or what a detached vision tower made
    of them; empty without images."""

    @property
    def attention_mask(self) -> Tensor:
        """bool [B, 1, T, T]; True where the row's token may look at the column's.

        A token sees the prompt and its own segment, up to itself. Padding sees itself only, since
        a row without any True has no softmax. Made where the batch lies, never moved.
        """
        segments_BT = self.segments
        query, key = segments_BT[:, :, None], segments_BT[:, None, :]
        place = torch.arange(segments_BT.shape[1], device=segments_BT.device)
        allowed = (key == query).logical_or_(key == 0).logical_and_(query >= 0)
        allowed.logical_and_(place[:, None] >= place)
        allowed.diagonal(dim1=1, dim2=2).fill_(True)
        return allowed[:, None]

    def to(self, device: torch.device) -> "PackedBatch":
        """The same batch on `device`."""

        def moved(value: Any) -> Any:
            if isinstance(value, dict):
                return {name: moved(tensor) for name, tensor in value.items()}
            return None if value is None else value.to(device)

        return PackedBatch(**{f.name: moved(getattr(self, f.name)) for f in fields(self)})

    def widened(self, columns: int, pad_id: int) -> "PackedBatch":
        """The batch with `columns` of padding behind each row."""

        def wider(values_BT: Tensor, padding: int) -> Tensor:
            return F.pad(values_BT, (0, columns), value=padding)

        return replace(
            self,
            input_ids=wider(self.input_ids, pad_id),
            position_ids=wider(self.position_ids, 0),
            in_prompt=wider(self.in_prompt, False),
            segments=wider(self.segments, -1),
            experts=_padded_tokens(self.experts, columns),
            sources=self.sources + self.sources // self.input_ids.shape[1] * columns,
        )


@dataclass(slots=True)
class _Row:
    """A row under construction: entries for tokens; from `sources` on, for trained tokens."""

    input_ids: list[int] = field(default_factory=list)
    position_ids: list[int] = field(default_factory=list)
    in_prompt: list[bool] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    def read(self, ids: Sequence[int], *, start: int, segment: int, in_prompt: bool) -> None:
        """Append tokens that the model reads, at positions from `start` on."""
        self.input_ids += ids
        self.position_ids += range(start, start + len(ids))
        self.in_prompt += [in_prompt] * len(ids)
        self.segments += [segment] * len(ids)

    def train(self, sources: Sequence[int], targets: Sequence[int], answer: int) -> None:
        """Train each of `targets`, predicted at the row's places `sources`."""
        self.sources += sources
        self.targets += targets
        self.answers += [answer] * len(targets)


def pack(batch: MicroBatch, pad_id: int, pixels: Pixels | None = None) -> PackedBatch:
    """Lay a micro-batch of answers out on the CPU; one without rows becomes filler.

    `pixels`: vision inputs of the rows' images, in order.

    Raises:
        ValueError: some answers have logprobs of a kind that others lack.
    """
    answers = [answer for row in batch for answer in row.answers]
    return _packed(
        [_prompt_and_answers(row) for row in batch],
        pad_id,
        advantages=_joined([(answer.advantage,) * len(answer.token_ids) for answer in answers]),
        loss_weights=_joined([(answer.weight,) * len(answer.token_ids) for answer in answers]),
        **{
            name: _joined([getattr(answer, name) for answer in answers], name)
            for name in ("sampler_logprobs", "old_logprobs", "reference_logprobs")
        },
        experts=_experts(batch),
        pixels=pixels or {},
        **_taught([answer.teacher for answer in answers]),
    )


def pack_chats(
    rows: Sequence[Sequence[TokenisedChat]], pad_id: int, pixels: Pixels | None = None
) -> PackedBatch:
    """Lay rows of chats out on the CPU, each chat a segment of its own; no row becomes filler.

    `pixels`: vision inputs of the chats' images, in order.

    Raises:
        ValueError: the first token of a chat is to be trained.
    """
    segments = count(1)
    return _packed([_chats(row, segments) for row in rows], pad_id, pixels=pixels or {})


def _prompt_and_answers(row: TrainingRow) -> _Row:
    """An answer's last token predicts nothing that counts, so it is not read."""
    made, prompt = _Row(), len(row.prompt_ids)
    made.read(row.prompt_ids, start=0, segment=0, in_prompt=True)
    for segment, answer in enumerate(row.answers, start=1):
        begin = len(made.input_ids)
        made.read(answer.token_ids[:-1], start=prompt, segment=segment, in_prompt=False)
        sources = (prompt - 1, *range(begin, len(made.input_ids)))
        made.train(sources, answer.token_ids, answer.index)
    return made


def _chats(chats: Sequence[TokenisedChat], segments: Iterator[int]) -> _Row:
    made = _Row()
    for chat in chats:
        if chat.loss_mask[0]:
            raise ValueError("a chat's first token is to be trained, but nothing predicts it")
        segment, begin = next(segments), len(made.input_ids)
        trained = [i for i, learn in enumerate(chat.loss_mask) if learn]
        made.read(chat.ids, start=0, segment=segment, in_prompt=True)
        made.train([begin + i - 1 for i in trained], [chat.ids[i] for i in trained], segment - 1)
    return made


def _packed(rows: Sequence[_Row], pad_id: int, **others: Any) -> PackedBatch:
    """The rows padded to a rectangle; `others` by the names of PackedBatch.

    Without any row: filler, one padding token that is its own target at weight 0, so that a rank
    without work still runs every module.
    """
    weight = 1.0 if rows else 0.0
    if not rows:
        rows = [_Row()]
        rows[0].read([pad_id], start=0, segment=1, in_prompt=True)
        rows[0].train([0], [pad_id], 0)
    width = max(len(row.input_ids) for row in rows)

    def padded(name: str, fill: int) -> Tensor:
        values = [getattr(row, name) for row in rows]
        return torch.tensor([own + [fill] * (width - len(own)) for own in values])

    def joined(values: Iterable[Sequence[int]]) -> Tensor:
        return torch.tensor(list(chain.from_iterable(values)), dtype=torch.int64)

    sources = joined([i * width + place for place in row.sources] for i, row in enumerate(rows))
    return PackedBatch(
        input_ids=padded("input_ids", pad_id),
        position_ids=padded("position_ids", 0),
        in_prompt=padded("in_prompt", False),
        segments=padded("segments", -1),
        sources=sources,
        targets=joined(row.targets for row in rows),
        answers=joined(row.answers for row in rows),
        weights=torch.full(sources.shape, weight),
        **others,
    )


def _experts(batch: MicroBatch) -> Tensor | None:
    """int16 [B, T, layers, K]; None where no row has any."""
    told = [each for row in batch for each in row.experts if each is not None]
    if not told:
        return None
    width = max(row.length for row in batch)
    made = np.full((len(batch), width, *told[0].shape[1:]), -1, np.int16)
    for place, row in enumerate(batch):
        begin = 0
        for length, each in zip(row.lengths, row.experts, strict=True):
            if each is not None:
                made[place, begin : begin + length] = each
            begin += length
    return torch.from_numpy(made)


def _padded_tokens(experts: Tensor | None, columns: int) -> Tensor | None:
    return None if experts is None else F.pad(experts, (0, 0, 0, 0, 0, columns), value=-1)


def _taught(teachers: Sequence[TeacherTokens | None]) -> dict[str, Tensor]:
    """A teacher's part of PackedBatch; empty without answers, or without a teacher."""
    known = [teacher for teacher in teachers if teacher is not None]
    if not known:
        return {}

    def joined(name: str) -> Tensor:
        return torch.from_numpy(np.concatenate([getattr(teacher, name) for teacher in known]))

    return {
        "teacher_logprobs": joined("logprobs"),
        "teacher_ids": joined("top_ids").long(),
        "teacher_top_logprobs": joined("top_logprobs"),
    }


def _joined(parts: Sequence[Sequence[float] | None], name: str = "") -> Tensor | None:
    """float32 [N], the parts behind one another; None where there are none of them."""
    known = [part for part in parts if part is not None]
    if not known:
        return None
    if len(known) < len(parts):
        raise ValueError(
            f"{len(parts) - len(known)} of {len(parts)} answers of a micro-batch have no {name}, "
            "and the loss of the others needs them: give them to all answers, or to none"
        )
    return torch.tensor(list(chain.from_iterable(known)), dtype=torch.float32)
