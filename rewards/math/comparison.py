"""The `math` reward, first half: what is compared with what. No sympy here, and linear time."""

import re
from dataclasses import dataclass

from configs.schema.reward import MathConfig, ThinkingConfig
from rewards.completion import Completion, empty_gold
from rewards.text.answer import NO_ANSWER, final_answer, last_box
from rewards.text.normalise import normalise, same_text
from rl.data.records import Problem, Verdict

_PLAIN_INTEGER = re.compile(r"-?(?:0|[1-9]\d{0,14})")
_OPEN, _SHUT = "([{", ")]}"


@dataclass(frozen=True, slots=True)
class MathComparison:
    """A final answer and its gold forms, normalised; equal comparisons have equal verdicts."""

    answer: str
    gold: tuple[str, ...]


def extract_comparison(
    problem: Problem, completion: Completion, config: MathConfig, thinking: ThinkingConfig
) -> Verdict | MathComparison:
    """What sympy has to compare, or the verdict where text alone settles it.

    Plain integers are compared here, since math-verify's verdict on those is equality of integers.
    """
    gold = tuple(clean_gold(form) for form in problem.gold)
    if not gold or not all(gold):
        return empty_gold(problem)
    answer = final_answer(completion.text, thinking)
    if not answer:
        return NO_ANSWER
    if len(answer) > config.max_chars:
        return Verdict(0.0, "unparsable", f"{len(answer)} characters, over {config.max_chars}")
    answer = normalise(answer)
    if not answer:
        return Verdict(0.0, "unparsable", "nothing but spaces and control characters")
    if any(same_text(answer, form) for form in gold):
        return Verdict(1.0, "correct", answer)
    if _PLAIN_INTEGER.fullmatch(answer) and all(map(_PLAIN_INTEGER.fullmatch, gold)):
        return Verdict(0.0, "wrong", f"{answer} is not {' or '.join(gold)}")
    depth = nesting(answer)
    if depth > config.max_depth:
        return Verdict(0.0, "unparsable", f"brackets {depth} deep, over {config.max_depth}")
    return MathComparison(answer, gold)


def clean_gold(form: str) -> str:
    """A gold form, normalised, without the wrapping that data sets put around it."""
    form = form.strip()
    if "####" in form:  # GSM8K's solutions
        form = form.rpartition("####")[2].strip()
    boxed = last_box(form)
    return normalise(form if boxed is None else boxed)


def nesting(text: str) -> int:
    """Greatest depth of brackets within brackets, of whatever kind."""
    depth = deepest = 0
    for character in text:
        if character in _OPEN:
            depth += 1
            deepest = max(deepest, depth)
        elif character in _SHUT:
            depth = max(depth - 1, 0)
    return deepest
