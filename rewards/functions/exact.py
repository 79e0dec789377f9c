"""The `exact` reward: the answer is the gold, letter for letter but for spaces and case."""

from configs.schema.reward import ThinkingConfig
from rewards.completion import Completion, empty_gold
from rewards.text.answer import NO_ANSWER, final_answer, undressed
from rl.data.records import Problem, Verdict


def exact_reward(problem: Problem, completion: Completion, thinking: ThinkingConfig) -> Verdict:
    """1 when the final answer is a gold form, but for case, white space and a final full stop."""
    golds = [_folded(undressed(form)) for form in problem.gold]
    if not golds or not all(golds):
        return empty_gold(problem)
    said = final_answer(completion.text, thinking)
    if not said:
        return NO_ANSWER
    if _folded(said) in golds:
        return Verdict(1.0, "correct", said[:200])
    return Verdict(0.0, "wrong", f"{said[:200]!r} is not {' or '.join(problem.gold)}")


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold().removesuffix(".")
