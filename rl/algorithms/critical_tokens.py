"""Where moves of reasoning begin ("Wait", "Alternatively"), at whose places entropy is logged.

High entropy there goes with reasoning of its own, low entropy with imitation (Skywork R1V3,
arXiv:2507.06167, "critical tokens"; it gives no list and no rule, so both are ours).
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

Phrases = tuple[tuple[int, ...], ...]
"""Token ids of each form of each word."""


def phrases_of(words: Iterable[str], tokenise: Callable[[str], Sequence[int]]) -> Phrases:
    """Each word as written and in lower case, at a line's start and behind a space."""
    forms = {
        f"{before}{form}" for word in words for form in (word, word.lower()) for before in ("", " ")
    }
    return tuple(sorted({tuple(tokenise(form)) for form in forms}))


def critical_tokens(targets_N: Tensor, answers_N: Tensor, phrases: Phrases) -> Tensor:
    """Where a phrase begins within one answer.

    Args:
        targets_N: int64 [N], the sampled tokens, each answer's in order.
        answers_N: int64 [N], which answer each belongs to.

    Returns:
        bool [N].
    """
    found_N = torch.zeros_like(targets_N, dtype=torch.bool)
    count = len(targets_N)
    for phrase in phrases:
        length = len(phrase)
        if not 0 < length <= count:
            continue
        starts = count - length + 1
        match = answers_N[:starts] == answers_N[length - 1 :]
        for place, token in enumerate(phrase):
            match = match & (targets_N[place : place + starts] == token)
        found_N[:starts] |= match
    return found_N
