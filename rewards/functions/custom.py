"""Rewards of the user's own: found by `module:function` or `file.py:function`, sync or async."""

import asyncio
import importlib
import importlib.util
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from configs.loading.suggest import closest_match
from rewards.completion import Completion
from rl.console.errors import UserError
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


@lru_cache(maxsize=64)
def load_custom(where: str) -> Callable[[Problem, Completion], Any]:
    """The function that `where` names.

    Raises:
        UserError: it cannot be found; the message names what is there instead.
    """
    home, colon, name = where.rpartition(":")
    if not colon or not home or not name:
        raise UserError(
            f"custom reward {where!r} names no function; write module:function or file.py:function"
        )
    module = _module(home, where)
    function = getattr(module, name, None)
    if not callable(function):
        there = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        close = closest_match(name, there)
        hint = f"did you mean {close}?" if close else f"it has {', '.join(there) or 'none'}"
        raise UserError(f"custom reward {where!r}: {home} has no function {name!r}; {hint}")
    return function


def _module(home: str, where: str) -> ModuleType:
    if not home.endswith(".py"):
        try:
            return importlib.import_module(home)
        except ImportError as error:
            raise UserError(f"custom reward {where!r}: cannot import {home!r}: {error}") from error
    path = Path(home).expanduser().resolve()
    if not path.is_file():
        raise UserError(f"custom reward {where!r}: there is no file {path}")
    spec = importlib.util.spec_from_file_location(f"custom_reward_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
