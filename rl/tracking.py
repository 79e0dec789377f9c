"""Weights & Biases, where the recipe wants it: online with a key, else offline."""

import logging
import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import wandb

logger = logging.getLogger(__name__)

PROJECT = "r1v-ray"
_MOST_WAIT_S = 20


class Tracker:
    """One run's figures on their way to Weights & Biases."""

    def __init__(self, folder: Path, name: str, recipe: Mapping[str, Any]) -> None:
        """Start tracking; where the server cannot be reached, the figures stay in `folder`."""
        mode = os.environ.get("WANDB_MODE") or ("online" if has_key() else "offline")
        try:
            self._run = _started(folder, name, recipe, mode)
        except wandb.Error as error:
            logger.warning("wandb stays offline, since it could not start: %s", error)
            self._run = _started(folder, name, recipe, "offline")

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Hand over the figures of `step`; sent from a process of wandb's own."""
        self._run.log({"step": step, **figures})

    def close(self) -> None:
        """Send what is left, for a bounded time; the rest stays in the run's folder."""
        self._run.finish()


def has_key() -> bool:
    """True where a key for the server is set: WANDB_API_KEY, or an entry in the netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    file = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        return netrc.netrc(file).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _started(folder: Path, name: str, recipe: Mapping[str, Any], mode: str) -> Any:
    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        name=name,
        dir=folder,
        config=dict(recipe),
        mode=mode,  # pyright: ignore[reportArgumentType]
        settings=wandb.Settings(
            console="off",
            silent=True,
            init_timeout=_MOST_WAIT_S,
            finish_timeout=_MOST_WAIT_S,
            finish_timeout_raises=False,
        ),
    )
    run.define_metric("*", step_metric="step")
    return run
