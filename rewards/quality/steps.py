"""The steps of a chain of thought that are equations, and whether they hold."""

import math
import re
from dataclasses import dataclass

from rewards.agreement.answers import value_of
from rewards.text.normalise import normalise

_LONGEST = 200
"""Characters of one side; longer ones are no step that can be checked."""
_MOST = 200
"""Equations of a chain that are checked."""
_COMMAND = r"\\(?:[dt]?frac|sqrt|times|cdot|div|left|right)(?![a-z])"
_SIDE = rf"(?:{_COMMAND}|[\d.,+\-*/^(){{}}%\u00b7\u00d7\u00f7\u2212 \t])+"
_EQUATION = re.compile(rf"(?<![\w}}\\])({_SIDE}(?:={_SIDE})+)(?![\w\\])")


@dataclass(frozen=True, slots=True)
class Steps:
    """What checking the equations of a chain found."""

    checked: int
    wrong: tuple[str, ...]
    """Those whose sides differ."""
    last: float | None
    """Value of the last right-hand side; None without an equation."""


def check_steps(text: str) -> Steps:
    """Check each equation between numbers that `text` states, such as 3+4=7 or 2*8=16=4^2.

    Sides with letters, and text that is no arithmetic, are left out. Never raises; bounded in time.
    """
    checked, wrong, last = 0, list[str](), None
    for found in _EQUATION.finditer(text):
        sides = [side.strip(" \n\t.,") for side in found.group(1).split("=")]
        if not all(any(c.isdigit() for c in side) and len(side) <= _LONGEST for side in sides):
            continue
        values = [value_of(normalise(side)) for side in sides]
        numbers = [value for value in values if value is not None and math.isfinite(value)]
        if len(numbers) < len(values):
            continue
        checked, last = checked + 1, numbers[-1]
        if not all(math.isclose(one, numbers[0], rel_tol=1e-6, abs_tol=1e-9) for one in numbers):
            wrong.append("=".join(sides))
        if checked == _MOST:
            break
    return Steps(checked, tuple(wrong), last)
