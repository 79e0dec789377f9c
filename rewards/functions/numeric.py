"""The `numeric` reward: the answer is the gold within a tolerance."""

import math
import re

from configs.schema.reward import RewardConfig
from rewards.agreement.answers import value_of
from rewards.completion import Completion, bad_gold
from rewards.text.answer import NO_ANSWER, final_answer, undressed
from rewards.text.normalise import normalise
from rl.data.records import Problem, Verdict

_LONGEST = 300
_PERCENT = re.compile(r"%|\bper ?cent")


def numeric_reward(problem: Problem, completion: Completion, config: RewardConfig) -> Verdict:
    """1 when |answer - gold| is within the tolerance.

    tolerance = max(relative_tolerance * |gold|, absolute_tolerance * min(1, |gold|)), for a gold of
    0 `absolute_tolerance`. Where the row has a field `precision`, also when both round to the same
    number of so many decimal places (MathVista, arXiv:2310.02255). Reads decimals, thousands
    separators, fractions, roots, powers of ten, percent (as hundredths, or as it stands where the
    gold has no percent sign and is above 1) and a unit behind the number, which is not compared.
    Never raises.
    """
    golds = [gold for form in problem.gold if (gold := number(undressed(form))) is not None]
    if not golds or len(golds) < len(problem.gold):
        return bad_gold(problem, f"gold answer {problem.gold!r} is no number")
    said = final_answer(completion.text, config.thinking)
    if not said:
        return NO_ANSWER
    value = number(said)
    if value is None:
        return Verdict(0.0, "unparsable", f"{said[:200]!r} is no number")
    for gold in golds:
        if _PERCENT.search(said) and not any(map(_PERCENT.search, problem.gold)) and abs(gold) > 1:
            value = 100 * value if abs(100 * value - gold) < abs(value - gold) else value
        absolute = config.absolute_tolerance * (min(1.0, abs(gold)) or 1.0)
        allowed = max(absolute, config.relative_tolerance * abs(gold))
        if abs(value - gold) <= allowed or _rounds_alike(value, gold, problem):
            return Verdict(1.0, "correct", f"{value:g}")
    return Verdict(0.0, "wrong", f"{value:g} is not {' or '.join(problem.gold)}")


def _rounds_alike(value: float, gold: float, problem: Problem) -> bool:
    places = problem.fields.get("precision")
    return isinstance(places, int) and round(value, places) == round(gold, places)


def number(text: str) -> float | None:
    """The finite number that a short text writes down, or None."""
    if len(text) > _LONGEST:
        return None
    value = value_of(normalise(text))
    return value if value is not None and math.isfinite(value) else None
