"""Rows and micro-batches: how answers are laid out for the learner.

A row holds one prompt once and several of its answers behind it, so that siblings share the prompt
and its images. A micro-batch is a list of rows padded to a rectangle. No torch here: the driver
builds micro-batches, the learner's ranks turn them into tensors.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rl.data.records import Problem


@dataclass(frozen=True, slots=True)
class TrainingAnswer:
    """One answer as the learner sees it."""

    index: int
    """Its place in the step, so that figures find their way back."""
    token_ids: tuple[int, ...]
    advantage: float = 1.0
    sampler_logprobs: tuple[float, ...] | None = None
    """What the sampler said of each token; None: a supervised target."""
    reference_logprobs: tuple[float, ...] | None = None
    weight: float = 1.0
    """0 for filler, which keeps ranks in step and changes nothing."""


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """One prompt and some of its answers."""

    problem: Problem
    prompt_ids: tuple[int, ...]
    answers: tuple[TrainingAnswer, ...]

    @property
    def length(self) -> int:
        """Tokens of the row; an answer's last token is predicted but never read."""
        return len(self.prompt_ids) + sum(len(a.token_ids) - 1 for a in self.answers)


MicroBatch = tuple[TrainingRow, ...]


def split_row(row: TrainingRow, max_tokens: int) -> list[TrainingRow]:
    """The row cut so that each piece fits `max_tokens`, the prompt repeated.

    Raises:
        ValueError: one answer with its prompt is longer than `max_tokens`.
    """
    pieces: list[TrainingRow] = []
    for answer in row.answers:
        alone = TrainingRow(row.problem, row.prompt_ids, (answer,))
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
    """Answer tokens that carry weight: the step's global token count, which the loss divides by."""
    return sum(len(a.token_ids) for row in rows for a in row.answers if a.weight > 0)


def build_microbatches(
    rows: Sequence[TrainingRow], max_tokens: int, ranks: int
) -> list[tuple[MicroBatch, ...]]:
    """For each rank its micro-batches, equally many, each at most `max_tokens` when padded.

    Long rows lie with long rows, so little is padding; ranks get about equal work. Where the number
    does not divide, filler of weight 0 keeps the ranks' collectives in step.

    Returns:
        `ranks` tuples of equally many micro-batches.
    """
    pieces = sorted(
        (piece for row in rows for piece in split_row(row, max_tokens)),
        key=lambda row: row.length,
        reverse=True,
    )
    share = -(-len(pieces) // ranks)
    batches: list[list[TrainingRow]] = []
    for row in pieces:
        last = batches[-1] if batches else None
        # Rows come longest first, so the first row of a batch sets its width. A batch never takes
        # more than a rank's share, or other ranks would idle.
        if last and len(last) < share and last[0].length * (len(last) + 1) <= max_tokens:
            last.append(row)
        else:
            batches.append([row])
    while len(batches) % ranks:
        batches.append([_filler(batches[-1][0])])
    return [tuple(tuple(batch) for batch in batches[rank::ranks]) for rank in range(ranks)]


def _filler(row: TrainingRow) -> TrainingRow:
    return replace(row, answers=(replace(row.answers[0], weight=0.0),))
