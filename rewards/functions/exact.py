"""The `exact` reward: the answer is the gold, letter for letter but for spaces and case."""

from configs.schema.reward import ThinkingConfig
from rewards.completion import Completion, bad_gold
from rewards.text.answer import final_answer
from rl.data.records import Problem, Verdict


def exact_reward(problem: Problem, completion: Completion, thinking: ThinkingConfig) -> Verdict:
    """1 when the final answer equals a gold form after folding case and runs of white space.

    A full stop at the end of either is let go. Never raises.
    """
    golds = [_folded(form) for form in problem.gold]
    if not golds or not all(golds):
        return bad_gold(problem, f"gold answer {problem.gold!r} is empty; give it or drop the row")
    said = final_answer(completion.text, thinking)
    if not said:
        return Verdict(0.0, "no_answer", "no box and no answer line after the thoughts")
    if _folded(said) in golds:
        return Verdict(1.0, "correct", said[:200])
    return Verdict(0.0, "wrong", f"{said[:200]!r} is not {' or '.join(problem.gold)}")


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold().removesuffix(".")
