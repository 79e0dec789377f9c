"""Whether the arithmetic that a chain of thought states is right."""

import re
from dataclasses import dataclass

from configs.schema.reward import MathConfig
from rewards.agreement.answers import Reading, agree, value_of
from rewards.math.comparison import nesting
from rewards.text.equations import StatedEquation
from rewards.text.normalise import normalise
from rl.data.records import Verdict

_MOST_DIGITS = 1000
_CLOSE = 0.01
"""Largest gap of two sides, as a share of the larger, where a text says that they nearly agree."""
_DECIMAL = re.compile(r"-?[\d,]*\.(\d+)")


@dataclass(frozen=True, slots=True)
class EquationCheck:
    """All equations that one chain states, in order."""

    equations: tuple[StatedEquation, ...]


def check_equations(check: EquationCheck, config: MathConfig) -> Verdict:
    """1 when every equation holds; else the first that does not.

    Sides are worked out exactly. A decimal fraction may be the other side rounded to the places
    that it has; what is stated to be near may be off by 1 %. Values of over 1,000 digits are not
    worked out, and do not hold.
    """
    for equation in check.equations:
        steps = zip(equation.sides, equation.signs, equation.sides[1:], strict=False)
        if not all(_hold(one, sign, other, config) for one, sign, other in steps):
            return Verdict(0.0, "wrong", f"{equation.text} does not hold")
    return Verdict(1.0, "correct", f"{len(check.equations)} equations hold")


def _hold(one: str, sign: str, other: str, config: MathConfig) -> bool:
    one, other = normalise(one), normalise(other)
    if max(nesting(one), nesting(other)) > config.max_depth:
        return False
    digits = min(_MOST_DIGITS, config.max_digits)
    if agree(one, other, config.decimals, digits) is Reading.SAME:
        return True
    first, second = value_of(one), value_of(other)
    if first is None or second is None:
        return False
    gap = abs(first - second)
    places = [len(match[1]) for side in (one, other) if (match := _DECIMAL.fullmatch(side))]
    rounded = bool(places) and gap <= 0.5000001 * 10.0 ** -min(places)
    return rounded or (sign == "~" and gap <= _CLOSE * max(abs(first), abs(second)))
