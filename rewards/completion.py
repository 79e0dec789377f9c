"""What a reward is: a function of a problem and a completion that returns a verdict."""

from collections.abc import Callable
from dataclasses import dataclass

from rl.data.records import Answer, FinishReason, Problem, Verdict

__all__ = ["Completion", "Problem", "Reward", "Verdict", "bad_gold", "completion_of", "empty_gold"]


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled answer as rewards see it: no token ids, no logprobs."""

    text: str
    """The answer as text, special tokens left out."""
    num_tokens: int
    """Number of tokens sampled, the end-of-sequence token included."""
    max_tokens: int
    """The sampler's limit on tokens."""
    finish_reason: FinishReason
    """`stop`: the policy ended it; `length`: it was cut off at `max_tokens`."""


Reward = Callable[[Problem, Completion], Verdict]
"""The form of each reward, built in or the user's own; built-in ones raise on no text."""


def completion_of(answer: Answer, max_tokens: int) -> Completion:
    """The part of a sampled answer that rewards see."""
    return Completion(answer.text, len(answer.token_ids), max_tokens, answer.finish_reason)


def bad_gold(problem: Problem, what: str) -> Verdict:
    """The verdict on a row whose gold answer or fields cannot be used; names the row."""
    return Verdict(0.0, "bad_gold", f"problem {problem.id!r}: {what}", gold_side=True)


def empty_gold(problem: Problem) -> Verdict:
    """The verdict on a row without a gold answer, or with an empty form of it."""
    return bad_gold(problem, f"gold answer {problem.gold!r} is empty; give it or drop the row")
