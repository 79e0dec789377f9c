"""Rewards of the user's own: found by `module:function` or `file.py:function`, sync or async."""

import asyncio
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rewards.completion import Completion
from rl.console.user_functions import load_function
from rl.data.records import Problem, Verdict


@dataclass(frozen=True, slots=True)
class CustomTask:
    """One call of a user's reward."""

    where: str
    """`module:function` or `file.py:function`."""
    problem: Problem
    completion: Completion
    share: bool = False
    """Its score is told as accuracy, so it has to be in [0, 1]."""


def load_custom(where: str) -> Callable[[Problem, Completion], Any]:
    """The function that `where` names.

    Raises:
        UserError: it cannot be found; the message names what is there instead.
    """
    return load_function(where, "custom reward")


def run_custom(task: CustomTask) -> Verdict:
    """The verdict of a user's reward; an error that it raises becomes a `crash` with its text."""
    try:
        said = load_custom(task.where)(task.problem, task.completion)
        if inspect.isawaitable(said):
            said = asyncio.run(_awaited(said))
    except MemoryError:
        raise
    except Exception as error:
        row = f"problem {task.problem.id!r}"
        return Verdict(0.0, "crash", f"{task.where} raised on {row}: {error!r}")
    return as_verdict(said, task.where, share=task.share)


async def _awaited(said: Any) -> Any:
    return await said


def as_verdict(said: Any, where: str, *, share: bool = False) -> Verdict:
    """What a user's reward returned, as a verdict.

    A finite number is its score, with cause `correct` from 1 on and `wrong` below; anything else is
    a `crash`, and so is a number outside [0, 1] that is a `share`.
    """
    score = said.score if isinstance(said, Verdict) else said
    if not isinstance(score, bool | int | float) or not math.isfinite(score):
        told = "return a finite number or a Verdict"
    elif share and not 0.0 <= score <= 1.0:
        told = "it is reward.accuracy, which is told as a share: return a number in [0, 1]"
    elif isinstance(said, Verdict):
        return said
    else:
        return Verdict(float(score), "correct" if score >= 1 else "wrong")
    return Verdict(0.0, "crash", f"{where} returned {said!r}; {told}")
