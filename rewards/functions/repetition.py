"""The `repetition` reward: how little an answer repeats itself."""

from rewards.completion import Completion
from rl.data.records import Problem, Verdict


def repetition_reward(problem: Problem, completion: Completion, ngram: int) -> Verdict:
    """1 - repeated n-grams / all n-grams of `ngram` words; 1 for an answer shorter than that.

    An n-gram counts as repeated from its second time on, as in arXiv:2502.03373, appendix C.2.
    """
    words = completion.text.split()
    total = len(words) - ngram + 1
    if total < 1:
        return Verdict(1.0, "correct", f"under {ngram} words")
    distinct = len({tuple(words[start : start + ngram]) for start in range(total)})
    if distinct == total:
        return Verdict(1.0, "correct")
    return Verdict(distinct / total, "wrong", f"{total - distinct} of {total} {ngram}-grams repeat")
