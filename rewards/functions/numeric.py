"""The `numeric` reward: the answer is the gold within a tolerance."""

import math
import re

from configs.schema.reward import RewardConfig
from rewards.completion import Completion, bad_gold
from rewards.text.answer import NO_ANSWER, final_answer
from rewards.text.normalise import normalise
from rl.data.records import Problem, Verdict

_NUMBER = re.compile(
    r"\\?\$?\s*([+-]?)\s*\\?\$?\s*(\d[\d,]{0,60}(?:\.\d{0,60})?|\.\d{1,60})\s*"
    r"(?:(?:\\times|\*|\\cdot)\s*10\s*\^\s*\{?\s*([+-]?\d{1,4})\s*\}?)?\s*(\\?%)?"
    r"(?:\s*(?:\\(?:text|mathrm)\s*\{[^{}]*\}|\^\s*\{?\\circ\}?|[A-Za-z][A-Za-z/ ]*)"
    r"(?:\^\{?-?\d\}?)?)?"
)
_FRACTION = re.compile(
    r"([+-]?)\s*(?:\\frac\s*\{\s*([+-]?\d{1,60})\s*\}\s*\{\s*(\d{1,60})\s*\}"
    r"|(\d{1,60})\s*/\s*(\d{1,60}))"
)


def numeric_reward(problem: Problem, completion: Completion, config: RewardConfig) -> Verdict:
    """1 when |answer - gold| <= max(absolute_tolerance, relative_tolerance * |gold|).

    Reads decimals, thousands separators, fractions, powers of ten, percent (as hundredths) and a
    unit behind the number, which is not compared. Never raises.
    """
    golds = [gold for form in problem.gold if (gold := number(form)) is not None]
    if not golds or len(golds) < len(problem.gold):
        return bad_gold(problem, f"gold answer {problem.gold!r} is no number")
    said = final_answer(completion.text, config.thinking)
    if not said:
        return NO_ANSWER
    value = number(said)
    if value is None:
        return Verdict(0.0, "unparsable", f"{said[:200]!r} is no number")
    for gold in golds:
        allowed = max(config.absolute_tolerance, config.relative_tolerance * abs(gold))
        if abs(value - gold) <= allowed:
            return Verdict(1.0, "correct", f"{value:g}")
    return Verdict(0.0, "wrong", f"{value:g} is not {' or '.join(problem.gold)}")


def number(text: str) -> float | None:
    """The finite number that a short text writes down, or None."""
    if len(text) > 300:
        return None
    text = normalise(text).rpartition("=")[2].strip()
    if (match := _FRACTION.fullmatch(text)) is not None:
        top, bottom = int(match[2] or match[4]), int(match[3] or match[5])
        if bottom == 0:
            return None
        return (-1.0 if match[1] == "-" else 1.0) * top / bottom
    if (match := _NUMBER.fullmatch(text)) is None:
        return None
    value = float(match[2].replace(",", ""))
    value *= (-1.0 if match[1] == "-" else 1.0) * (0.01 if match[4] else 1.0)
    try:
        value *= 10.0 ** int(match[3] or 0)
    except OverflowError:
        return None
    return value if math.isfinite(value) else None
