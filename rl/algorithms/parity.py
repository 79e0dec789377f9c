"""Checks before step 1: that engine and learner have the same prompts and the same logprobs."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from rl.algorithms.rows import TrainingAnswer, TrainingRow
from rl.data.records import Group, Problem


class ParityError(RuntimeError):
    """Engine and learner disagree before anything was learned."""


def check_prompts(
    groups: Sequence[Group],
    expected: Sequence[tuple[int, ...]],
    name_token: Callable[[int], str],
) -> None:
    """Check that the engine's expanded prompts equal the learner's, token for token.

    Args:
        groups: the engine's, with `prompt_ids`.
        expected: the learner's token ids of the same problems, in the same order.
        name_token: the text of a token id, for the error message.

    Raises:
        ParityError: shows the problem, both lengths and the first place where they differ.
    """
    for group, ids in zip(groups, expected, strict=True):
        if group.prompt_ids == ids:
            continue
        both = list(zip(group.prompt_ids, ids, strict=False))
        place = next((i for i, (a, b) in enumerate(both) if a != b), len(both))
        shown = [_around(tokens, place, name_token) for tokens in (group.prompt_ids, ids)]
        raise ParityError(
            f"problem {group.problem.id!r}: the engine's prompt has {len(group.prompt_ids)} "
            f"tokens, the learner's {len(ids)}, and they part at token {place}:\n"
            f"  engine:  {shown[0]}\n  learner: {shown[1]}\n"
            "the processor in the policy's folder is not the one that vLLM uses; compare "
            "preprocessor and chat-template files"
        )


def _around(tokens: Sequence[int], place: int, name_token: Callable[[int], str]) -> str:
    part = tokens[max(0, place - 3) : place + 4]
    return " ".join(f"{name_token(token)!r}({token})" for token in part) or "(ends)"


def parity_rows(groups: Sequence[Group]) -> list[TrainingRow]:
    """The groups as training rows of advantage 0; answers are numbered over all groups."""
    rows: list[TrainingRow] = []
    place = 0
    for group in groups:
        answers = tuple(
            TrainingAnswer(
                place + i, answer.token_ids, 0.0, answer.logprobs, experts=answer.experts
            )
            for i, answer in enumerate(group.answers)
        )
        rows.append(TrainingRow(group.problem, group.prompt_ids, answers, group.prompt_experts))
        place += len(answers)
    return rows


def check_logprobs(
    rows: Sequence[TrainingRow], learner: Mapping[int, Sequence[float]], bound: float
) -> float:
    """The mean absolute gap of sampler and learner logprobs over all answer tokens, nats.

    Args:
        rows: with `sampler_logprobs`, nats.
        learner: the learner's logprobs of each answer's tokens, nats, by the answer's index.
        bound: largest mean gap that is allowed, nats.

    Raises:
        ParityError: it is above `bound`; shows the token with the largest gap.
    """
    gaps: list[tuple[float, Problem, int, float, float]] = []
    for row in rows:
        for answer in row.answers:
            assert answer.sampler_logprobs is not None
            pairs = zip(answer.sampler_logprobs, learner[answer.index], strict=True)
            gaps += [(abs(s - m), row.problem, i, s, m) for i, (s, m) in enumerate(pairs)]
    mean = fmean(gap[0] for gap in gaps)
    if mean <= bound:
        return mean
    _, problem, place, sampled, meant = max(gaps, key=lambda gap: gap[0])
    raise ParityError(
        f"logprobs of engine and learner are {mean:.3g} nats apart on average, over "
        f"preflight.max_logprob_gap={bound:g}; the worst is token {place} of an answer to problem "
        f"{problem.id!r}: engine {sampled:.4f}, learner {meant:.4f}. Look for different weights, "
        "precision, image preprocessing or temperature"
    )
