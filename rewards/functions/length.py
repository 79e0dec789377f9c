"""The `length` reward: DAPO's soft overlong penalty (arXiv:2503.14476, equation 13), plus 1."""

from rewards.completion import Completion
from rl.data.records import Problem, Verdict


def length_reward(problem: Problem, completion: Completion, overlong_tokens: int) -> Verdict:
    """min(1, (max_tokens - num_tokens) / overlong_tokens), and 0 for an answer that was cut off.

    DAPO's penalty runs from 0 down to -1 over the last `overlong_tokens` before the limit; scores
    run from 1 down to 0, and the constant between them cancels in advantages within a group.
    """
    left = completion.max_tokens - completion.num_tokens
    if completion.finish_reason == "length" or left < 0:
        return Verdict(0.0, "wrong", f"cut off at {completion.max_tokens} tokens")
    score = min(1.0, left / overlong_tokens)
    if score == 1.0:
        return Verdict(1.0, "correct")
    return Verdict(score, "wrong", f"{left} tokens short of the limit")
