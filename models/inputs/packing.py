"""Micro-batches as tensors: siblings behind one prompt, each blind to the others.

Axes: B rows, T tokens of the longest row, N answer tokens over all rows.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from rl.algorithms.rows import MicroBatch, TrainingAnswer, TrainingRow


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
    """int64 [N]: index into B*T of the position that predicts each answer token."""
    targets: Tensor
    """int64 [N]: the answer tokens."""
    answers: Tensor
    """int64 [N]: place in the step of the answer that each token belongs to."""
    weights: Tensor
    """float32 [N]: 1, or 0 for filler."""
    advantages: Tensor
    """float32 [N]."""
    sampler_logprobs: Tensor | None
    """float32 [N]; None for supervised targets."""
    reference_logprobs: Tensor | None
    """float32 [N]; None without a reference policy."""

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
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return PackedBatch(**{k: None if v is None else v.to(device) for k, v in values.items()})


def _row_layout(row: TrainingRow) -> tuple[list[int], list[int], list[int], list[int]]:
    """ids, positions and segments of a row's tokens, and where each answer token is predicted.

    Segment 0 is the prompt, k the k-th answer. The last token of an answer predicts nothing that
    counts, so it is left out.
    """
    prompt = len(row.prompt_ids)
    ids, positions, segments = list(row.prompt_ids), list(range(prompt)), [0] * prompt
    sources: list[int] = []
    for segment, answer in enumerate(row.answers, start=1):
        start, read = len(ids), len(answer.token_ids) - 1
        sources += [prompt - 1, *range(start, start + read)]
        ids += answer.token_ids[:-1]
        positions += range(prompt, prompt + read)
        segments += [segment] * read
    return ids, positions, segments, sources


def pack(batch: MicroBatch, pad_id: int) -> PackedBatch:
    """Lay a micro-batch out as tensors on the CPU. Filler keeps its tokens, at weight 0."""
    layouts = [_row_layout(row) for row in batch]
    width = max(len(ids) for ids, _, _, _ in layouts)

    def padded(column: int, fill: int) -> Tensor:
        rows = [layout[column] + [fill] * (width - len(layout[column])) for layout in layouts]
        return torch.tensor(rows, dtype=torch.int64)

    answers = [answer for row in batch for answer in row.answers]
    sources = [i * width + s for i, layout in enumerate(layouts) for s in layout[3]]

    def each_token(value: Callable[[TrainingAnswer], float]) -> list[float]:
        return [value(a) for a in answers for _ in a.token_ids]

    return PackedBatch(
        input_ids=padded(0, pad_id),
        position_ids=padded(1, 0),
        in_prompt=padded(2, -1) == 0,
        segments=padded(2, -1),
        sources=torch.tensor(sources, dtype=torch.int64),
        targets=torch.tensor([t for a in answers for t in a.token_ids], dtype=torch.int64),
        answers=torch.tensor([a.index for a in answers for _ in a.token_ids], dtype=torch.int64),
        weights=torch.tensor(each_token(lambda a: a.weight), dtype=torch.float32),
        advantages=torch.tensor(each_token(lambda a: a.advantage), dtype=torch.float32),
        sampler_logprobs=_joined([a.sampler_logprobs for a in answers]),
        reference_logprobs=_joined([a.reference_logprobs for a in answers]),
    )


def _joined(parts: list[tuple[float, ...] | None]) -> Tensor | None:
    if any(part is None for part in parts):
        return None
    return torch.tensor([x for part in parts if part for x in part], dtype=torch.float32)
