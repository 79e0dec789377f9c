"""Rows and micro-batches of answers, without tensors: the driver builds them, ranks pack them.

A row holds a prompt once and several of its answers behind it, which share the prompt's images.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rl.data.microbatches import plan_batches
from rl.data.records import Experts, Problem, TeacherTokens


@dataclass(frozen=True, slots=True)
class TrainingAnswer:
    """One answer as the learner sees it."""

    index: int
    """Its place in the step, by which the learner reports on it."""
    token_ids: tuple[int, ...]
    advantage: float = 1.0
    sampler_logprobs: tuple[float, ...] | None = None
    """Of each token, in nats; None: a supervised target."""
    reference_logprobs: tuple[float, ...] | None = None
    """Of each token, in nats; None without a reference policy."""
    teacher: TeacherTokens | None = None
    """None without a teacher."""
    weight: float = 1.0
    """What the loss of each of its tokens counts in its update."""
    old_logprobs: tuple[float, ...] | None = None
    """Of each token, in nats, the learner's before the step's first update; None: it is that one,
    or nobody asks."""
    experts: Experts | None = None
    """Whom the sampler sent each of its tokens but the last to; None: the learner chooses."""


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """One prompt and some of its answers."""

    problem: Problem
    prompt_ids: tuple[int, ...]
    answers: tuple[TrainingAnswer, ...]
    prompt_experts: Experts | None = None
    """Whom the sampler sent each of the prompt's tokens to; None: the learner chooses."""

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens that are read of the prompt, and of each answer: its last token is predicted
        alone."""
        return (len(self.prompt_ids), *(len(a.token_ids) - 1 for a in self.answers))

    @property
    def length(self) -> int:
        """Tokens of the row."""
        return sum(self.lengths)

    @property
    def experts(self) -> tuple[Experts | None, ...]:
        """Whom the sampler sent the tokens of `lengths` to."""
        return (self.prompt_experts, *(answer.experts for answer in self.answers))


MicroBatch = tuple[TrainingRow, ...]
"""Rows of one forward pass; none: filler."""


def split_row(row: TrainingRow, max_tokens: int) -> list[TrainingRow]:
    """The row cut so that each piece fits `max_tokens`, the prompt repeated.

    Raises:
        ValueError: one answer with its prompt is longer than `max_tokens`.
    """
    pieces: list[TrainingRow] = []
    for answer in row.answers:
        alone = replace(row, answers=(answer,))
        if alone.length > max_tokens:
            raise ValueError(
                f"problem {row.problem.id!r}: prompt of {len(row.prompt_ids)} and answer of "
                f"{len(answer.token_ids)} tokens do not fit "
                f"learner.max_tokens_per_microbatch={max_tokens}; raise it, or lower "
                "prompt.max_tokens or rollout.max_new_tokens"
            )
        if pieces:
            joined = replace(pieces[-1], answers=(*pieces[-1].answers, answer))
            if joined.length <= max_tokens:
                pieces[-1] = joined
                continue
        pieces.append(alone)
    return pieces


def count_tokens(rows: Sequence[TrainingRow]) -> int:
    """Answer tokens of the step on all ranks, which the loss divides by."""
    return sum(len(a.token_ids) for row in rows for a in row.answers)


def build_microbatches(
    rows: Sequence[TrainingRow], max_tokens: int, ranks: int
) -> list[tuple[MicroBatch, ...]]:
    """For each rank its micro-batches, equally many, each at most `max_tokens` when padded.

    Rows are cut where they do not fit. Micro-batches without rows are filler.
    """
    pieces = [piece for row in rows for piece in split_row(row, max_tokens)]
    dealt = plan_batches([piece.length for piece in pieces], max_tokens, ranks)
    return [tuple(tuple(pieces[i] for i in batch) for batch in own) for own in dealt]
