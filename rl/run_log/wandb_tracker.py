"""Weights & Biases, where the recipe wants it: online with a key, else offline.

Everything of wandb's happens in a thread of its own. A server that does not answer, or a wandb that
breaks, costs its figures and a warning, and never the run a second.
"""

import logging
import netrc
import os
import queue
import secrets
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from rl.run_log.wandb_table import samples_table
from rl.run_page.cards import Line
from rl.run_page.page import pictures_of
from rl.storage.atomic import atomic_file

logger = logging.getLogger(__name__)

PROJECT = "r1v-ray"
RUN_ID = "wandb_run_id"
"""The file in a run's folder."""
START_WAIT_S = 20
"""How long the server may take to answer before the run is tracked offline."""
CLOSE_WAIT_S = 30
"""How long the end of a run waits for figures that are still to be sent."""

_DATA = "WANDB_DATA_DIR"
"""The variable that says where wandb keeps a table's images until they are sent."""
_DATA_OF_USER = os.environ.get(_DATA)

Logged = tuple[dict[str, Any], Sequence[Line]]
"""Figures of a step, and samples for a table beside them."""


class Tracker:
    """One run's figures on their way to Weights & Biases."""

    def __init__(self, folder: Path, name: str, recipe: Mapping[str, Any]) -> None:
        """Start tracking; without a key or a server, the figures stay in `folder`/wandb."""
        self._logged: queue.SimpleQueue[Logged | None] = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=self._track, args=(folder, name, dict(recipe)), name="wandb", daemon=True
        )
        self._thread.start()

    def write(self, step: int, figures: Mapping[str, float], samples: Sequence[Line] = ()) -> None:
        """Hand over the figures of `step`, and lines of samples.jsonl; returns at once."""
        self._logged.put(({"step": step, **figures}, samples))

    def close(self) -> None:
        """Send what is left, for at most CLOSE_WAIT_S."""
        self._logged.put(None)
        self._thread.join(START_WAIT_S + CLOSE_WAIT_S)
        if self._thread.is_alive():
            logger.warning("wandb has not finished; `wandb sync` sends what it left behind")

    def _track(self, folder: Path, name: str, recipe: dict[str, Any]) -> None:
        try:
            run = _started(folder, name, recipe)
            pictures = pictures_of(folder)
            accuracy = str((recipe.get("reward") or {}).get("accuracy", ""))
            while (logged := self._logged.get()) is not None:
                figures, samples = logged
                if samples:
                    figures["samples"] = samples_table(pictures, folder, samples, accuracy)
                run.log(figures)
            run.finish()
        except Exception:  # whatever breaks in there must not end a training run
            logger.warning("wandb has stopped; the run folder still has everything", exc_info=True)


def has_key(base_url: str) -> bool:
    """True where a key for the server is set: WANDB_API_KEY, or an entry in the netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(base_url).hostname or ""
    file = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        return netrc.netrc(file).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _run_id(folder: Path) -> str:
    """The run's id at Weights & Biases; a run that goes on keeps the one in its folder."""
    path = folder / RUN_ID
    if path.is_file():
        return path.read_text("utf-8").strip()
    made = secrets.token_hex(6)
    with atomic_file(path) as aside:
        aside.write_text(f"{made}\n", "utf-8")
    return made


def _started(folder: Path, name: str, recipe: dict[str, Any]) -> Any:
    import wandb  # seconds, which only a run that is tracked should spend, and in this thread

    os.environ[_DATA] = _DATA_OF_USER or str(folder / "wandb")  # else in the user's home
    settings = wandb.Settings(
        console="off", silent=True, init_timeout=START_WAIT_S, finish_timeout=CLOSE_WAIT_S
    )

    def start(mode: Any) -> Any:
        return wandb.init(
            id=_run_id(folder),
            resume="allow",
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=name,
            dir=folder,
            config=recipe,
            mode=mode,
            settings=settings,
        )

    wanted = os.environ.get("WANDB_MODE")
    try:
        run = start(wanted or ("online" if has_key(settings.base_url) else "offline"))
    except wandb.Error as error:
        logger.warning("wandb could not reach its server and stays offline: %s", error)
        run = start("offline")
    run.define_metric("*", step_metric="step")
    return run
