"""Checkpoints on disk: written aside, renamed when whole, the newest few kept."""

import json
import logging
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from rl.console.errors import UserError
from rl.storage.atomic import atomic_file, atomic_folder, unfinished
from rl.storage.disk import tell_full_disk

logger = logging.getLogger(__name__)

STATE = "state.json"
BEST = "best.json"
"""Names the best checkpoint's step, beside the checkpoints."""
_WHOLE = re.compile(r"step_(\d+)")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A whole checkpoint."""

    step: int
    """Updates behind the policy: the step that comes next."""
    folder: Path

    @property
    def learner(self) -> Path:
        """Sharded learner state."""
        return self.folder / "learner"

    @property
    def policy(self) -> Path:
        """The policy in Hugging Face layout."""
        return self.folder / "policy"

    @property
    def missing(self) -> list[str]:
        """Which of the two is not there, or holds nothing."""
        parts = (self.learner, self.policy)
        return [part.name for part in parts if not part.is_dir() or not any(part.iterdir())]


Measure = Literal["accuracy", "critical_entropy"]


@dataclass(frozen=True, slots=True)
class Best:
    """The best policy of a run."""

    step: int
    """Updates behind it."""
    measure: Measure
    """What it is the best by."""
    value: float


class NothingToResume(UserError):
    """--resume was asked for, and there is no whole checkpoint."""


class IncompleteCheckpoint(UserError):
    """Learner ranks wrote their part of a checkpoint elsewhere."""


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder = folder
        self._keep = keep

    def write(
        self, step: int, fill: Callable[[Checkpoint], None], *, best: Best | None = None
    ) -> Checkpoint:
        """Write the checkpoint of `step` by `fill`; then drop all but the newest few and the best.

        `best`: the best so far, which `best.json` names from now on; None: it names what it did.

        Raises:
            IncompleteCheckpoint: `fill` left no learner state, or no policy.
            DiskFull: there was no room; those before are as they were.
        """
        whole = self._at(step)
        with (
            atomic_folder(whole.folder, existing="replace") as aside,
            tell_full_disk(self._folder, f"the checkpoint of step {step}"),
        ):
            written = Checkpoint(step, aside)
            fill(written)
            if written.missing:
                raise IncompleteCheckpoint(
                    f"the checkpoint of step {step} in {self._folder.resolve()} has no "
                    f"{' and no '.join(written.missing)}: learner ranks wrote elsewhere; set "
                    "log.folder to a folder that all nodes share"
                )
            state = {"step": step, "files": _sizes(aside)}
            (aside / STATE).write_text(json.dumps(state) + "\n", "utf-8")
        # Later ones can only be unreadable: they may not push out those that can be read.
        if best:
            with atomic_file(self._folder / BEST) as aside:
                aside.write_text(json.dumps(asdict(best)) + "\n", "utf-8")
        known = self.best()
        for old in [each for each in self._all() if each.step <= step][: -self._keep]:
            if known is None or old.step != known.step:
                shutil.rmtree(old.folder)
        return whole

    def best(self) -> Best | None:
        """What `best.json` says; None where there is none."""
        try:
            return Best(**json.loads((self._folder / BEST).read_text("utf-8")))
        except FileNotFoundError:
            return None

    def aside(self, step: int) -> Checkpoint:
        """The checkpoint of `step` while rank 0 is in `write`, for the other ranks' part of it."""
        return Checkpoint(step, unfinished(self._at(step).folder))

    def newest(self) -> Checkpoint | None:
        """The newest whole checkpoint; half-written ones are passed over with a warning."""
        for half in sorted(self._folder.glob(".writing_step_*")):
            logger.warning("passing over %s: it was not written to its end", half)
        for found in reversed(self._all()):
            fault = _fault(found)
            if fault is None:
                return found
            logger.warning("passing over %s: %s", found.folder, fault)
        return None

    def to_resume(self) -> Checkpoint:
        """The newest whole checkpoint. NothingToResume where there is none."""
        found = self.newest()
        if found is None:
            raise NothingToResume(
                f"--resume: {self._folder.parent} holds no whole checkpoint; name the run that "
                "should go on, or start it without --resume"
            )
        return found

    def _at(self, step: int) -> Checkpoint:
        return Checkpoint(step, self._folder / f"step_{step:06d}")

    def _all(self) -> list[Checkpoint]:
        found = [
            Checkpoint(int(match.group(1)), path)
            for path in self._folder.glob("step_*")
            if (match := _WHOLE.fullmatch(path.name))
        ]
        return sorted(found, key=lambda checkpoint: checkpoint.step)


def _fault(found: Checkpoint) -> str | None:
    """Why nothing can go on from a checkpoint; None where it is whole."""
    try:
        state = json.loads((found.folder / STATE).read_text("utf-8"))
    except (OSError, ValueError) as error:
        return f"its {STATE} is unreadable ({error})"
    if found.missing:
        return f"it has no {' and no '.join(found.missing)}"
    if state.get("step") != found.step:
        return f"its {STATE} speaks of another step"
    there = _sizes(found.folder)
    for name, size in state.get("files", {}).items():  # earlier ones were written without
        if there.get(name, 0) < size:
            return f"{name} has {there.get(name, 0):,} of its {size:,} bytes"
    return None


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes of each file below `folder`, by its path from there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
