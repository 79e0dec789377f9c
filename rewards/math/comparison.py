"""The `math` reward, first half: what is compared with what. No sympy here, and linear time."""

import re
from dataclasses import dataclass

from configs.schema.reward import MathConfig, ThinkingConfig
from rewards.completion import Completion, bad_gold
from rewards.text.answer import final_answer, last_box
from rewards.text.normalise import normalise, same_text
from rl.data.records import Problem, Verdict

_PLAIN_INTEGER = re.compile(r"-?(?:0|[1-9]\d{0,14})")
_OPEN, _SHUT = "([{", ")]}"


@dataclass(frozen=True, slots=True)
class MathComparison:
    """A final answer and the gold forms it is held against; equal claims have equal verdicts."""

    answer: str
    gold: tuple[str, ...]


def extract_comparison(
    problem: Problem, completion: Completion, config: MathConfig, thinking: ThinkingConfig
) -> Verdict | MathComparison:
    """The claim that a text makes, or the verdict where none has to be worked out.

    Plain integers are compared here: for those math-verify's verdict is equality of integers.
    """
    gold = tuple(clean_gold(form) for form in problem.gold)
    if not gold or not all(gold):
        return bad_gold(problem, f"gold answer {problem.gold!r} is empty; give it or drop the row")
    answer = final_answer(completion.text, thinking)
    if not answer:
        return Verdict(0.0, "no_answer", "no box and no answer line after the thoughts")
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
    """A gold form with the wrapping that data sets put around it taken off."""
    form = form.strip()
    if "####" in form:  # GSM8K's solutions
        form = form.rpartition("####")[2].strip()
    boxed = last_box(form)
    return normalise(form if boxed is None else boxed)


def nesting(text: str) -> int:
    """How deep brackets of any kind stand within each other."""
    depth = deepest = 0
    for character in text:
        if character in _OPEN:
            depth += 1
            deepest = max(deepest, depth)
        elif character in _SHUT:
            depth = max(depth - 1, 0)
    return deepest
