"""The `math` reward, first half: what is compared with what. No sympy here, and linear time."""

import re
from dataclasses import dataclass

from configs.schema.reward import MathConfig, ThinkingConfig
from rewards.completion import Completion, bad_gold, empty_gold
from rewards.text.answer import NO_ANSWER, all_boxes, final_answer, undressed
from rewards.text.normalise import normalise, same_text
from rl.data.records import Problem, Verdict

_PLAIN_INTEGER = re.compile(r"-?(?:0|[1-9]\d{0,14})")
_MAY_BE_LIST = re.compile(r"[,;]|\band\b|\bor\b|\\pm")
_OPEN, _SHUT = "([{", ")]}"


@dataclass(frozen=True, slots=True)
class MathComparison:
    """A final answer and its gold forms, normalised; equal comparisons have equal verdicts."""

    answer: str
    gold: tuple[str, ...]
    boxes: str = ""
    """All boxes of the answer as one list, where it has several and a gold form may be a list."""


def extract_comparison(
    problem: Problem, completion: Completion, config: MathConfig, thinking: ThinkingConfig
) -> Verdict | MathComparison:
    """What sympy has to compare, or the verdict where text alone settles it.

    Plain integers are compared here, since math-verify's verdict on those is equality of integers.
    """
    gold = tuple(clean_gold(form) for form in problem.gold)
    if not gold or not all(gold):
        return empty_gold(problem)
    if fault := unmatchable(gold, config):
        return bad_gold(problem, fault)
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
    boxes = _boxes_as_list(completion, gold, thinking, config)
    if not boxes and _PLAIN_INTEGER.fullmatch(answer) and all(map(_PLAIN_INTEGER.fullmatch, gold)):
        return Verdict(0.0, "wrong", f"{answer} is not {' or '.join(gold)}")
    depth = nesting(answer)
    if depth > config.max_depth:
        return Verdict(0.0, "unparsable", f"brackets {depth} deep, over {config.max_depth}")
    return MathComparison(answer, gold, boxes)


def _boxes_as_list(
    completion: Completion, gold: tuple[str, ...], thinking: ThinkingConfig, config: MathConfig
) -> str:
    if not any(_MAY_BE_LIST.search(form) for form in gold):
        return ""
    found = all_boxes(completion.text, thinking)
    if sum(map(len, found)) > config.max_chars:
        return ""
    boxes = list(dict.fromkeys(map(normalise, found)))
    joined = ", ".join(boxes)
    fits = len(joined) <= config.max_chars and nesting(joined) <= config.max_depth
    return joined if len(boxes) > 1 and fits else ""


def clean_gold(form: str) -> str:
    """A gold form, normalised, without the wrapping that data sets put around it."""
    return normalise(undressed(form))


def unmatchable(gold: tuple[str, ...], config: MathConfig) -> str:
    """Why no answer could equal one of the gold forms (normalised); empty where one could."""
    for form in gold:
        if len(form) > config.max_chars:
            return f"gold of {len(form)} characters, over {config.max_chars} of any answer read"
        if nesting(form) > config.max_depth:
            return f"gold answer {form!r} has brackets over {config.max_depth} deep"
        if not any(character.isalnum() for character in form.replace("emptyset", "0")):
            return f"gold answer {form!r} has neither a number nor a word"
    return ""


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
