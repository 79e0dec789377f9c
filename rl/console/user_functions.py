"""Functions of the user's own, found by `module:function` or `file.py:function`."""

import importlib
import importlib.util
import inspect
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from configs.loading.suggest import closest_match
from rl.console.errors import UserError


@lru_cache(maxsize=64)
def load_function(where: str, kind: str) -> Callable[..., Any]:
    """The function that `where` names; `kind`: what it is, for the refusal.

    Raises:
        UserError: it cannot be found; the message names what is there instead.
    """
    home, colon, name = where.rpartition(":")
    if not colon or not home or not name:
        raise UserError(
            f"{kind} {where!r} names no function; write module:function or file.py:function"
        )
    module = _module(home, where, kind)
    function = getattr(module, name, None)
    if not callable(function):
        there = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        close = closest_match(name, there)
        hint = f"did you mean {close}?" if close else f"it has {', '.join(there) or 'none'}"
        raise UserError(f"{kind} {where!r}: {home} has no function {name!r}; {hint}")
    return function


def _module(home: str, where: str, kind: str) -> ModuleType:
    if not home.endswith(".py"):
        try:
            return importlib.import_module(home)
        except ImportError as error:
            raise UserError(f"{kind} {where!r}: cannot import {home!r}: {error}") from error
    path = Path(home).expanduser().resolve()
    if not path.is_file():
        raise UserError(f"{kind} {where!r}: there is no file {path}")
    spec = importlib.util.spec_from_file_location(f"own_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
