"""Stages of a long run: finished ones are skipped; changed ones run again, and all that follow."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rl.storage.atomic import atomic_file

Figures = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of a run, whose result its settings and the stages that it needs decide."""

    name: str
    settings: Mapping[str, Any]
    """All that decides the result, as JSON has it."""
    needs: tuple[str, ...]
    """Names of earlier stages whose results it reads."""
    work: Callable[[bool], Figures]
    """Does it; True: go on with what a killed try of the same settings left. Returns figures."""


@dataclass(frozen=True, slots=True)
class StageState:
    """What is to be done about a stage."""

    name: str
    finished: bool
    resume: bool
    """A try with the same settings was begun and not finished."""
    why: str
    """Why it runs; empty where it does not."""


class StageLedger:
    """What a run's stages did, in one JSON file, by name."""

    def __init__(self, path: Path) -> None:
        self._path = path
        known = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        self._entries: dict[str, dict[str, Any]] = known

    def states(self, stages: Sequence[Stage]) -> list[StageState]:
        """Each stage's state, in their order, before anything is run."""
        states: list[StageState] = []
        again: set[str] = set()
        for stage in stages:
            state = self._state(stage, again)
            if not state.finished:
                again.add(stage.name)
            states.append(state)
        return states

    def run(self, stages: Sequence[Stage], told: Callable[[str, Figures], object]) -> None:
        """Run what is not finished, in order; `told` is called with each stage's figures.

        A stage's figures also hold `wall_s`, seconds of all its tries.
        """
        for stage, state in zip(stages, self.states(stages), strict=True):
            if not state.finished:
                self._run(stage, resume=state.resume)
            told(stage.name, self.figures(stage.name))

    def finished(self, name: str) -> bool:
        """Whether a stage was run to its end."""
        return name in self._entries and self._entries[name]["finished"]

    def figures(self, name: str) -> Figures:
        """Figures of a finished stage."""
        return self._entries[name]["figures"]

    def _run(self, stage: Stage, *, resume: bool) -> None:
        entry = self._entries.get(stage.name, {}) if resume else {}
        before = float(entry.get("wall_s", 0.0))
        begun = {"digest": self._digest(stage), "settings": dict(stage.settings)}
        self._entries[stage.name] = {**begun, "finished": False, "wall_s": before}
        self._save()
        start = time.monotonic()

        def spent() -> float:
            return round(before + time.monotonic() - start, 1)

        try:
            figures = dict(stage.work(resume))
        except BaseException:
            self._entries[stage.name]["wall_s"] = spent()
            self._save()
            raise
        done = {"finished": True, "wall_s": spent(), "figures": figures | {"wall_s": spent()}}
        self._entries[stage.name] |= done
        self._save()

    def _state(self, stage: Stage, again: set[str]) -> StageState:
        entry = self._entries.get(stage.name)
        if entry is None:
            return StageState(stage.name, False, False, "not run yet")
        if first := [name for name in stage.needs if name in again]:
            return StageState(stage.name, False, False, f"follows {', '.join(first)}")
        if changed := _changes(entry["settings"], stage.settings):
            return StageState(stage.name, False, False, f"the recipe changed: {'; '.join(changed)}")
        if entry["digest"] != self._digest(stage):
            return StageState(stage.name, False, False, "follows a stage that was run again")
        if not entry["finished"]:
            return StageState(stage.name, False, True, "was not finished")
        return StageState(stage.name, True, False, "")

    def _digest(self, stage: Stage) -> str:
        """Changes with the stage's settings and with everything that it needs."""
        needed = [self._entries[name]["digest"] for name in stage.needs]
        words = json.dumps([stage.name, stage.settings, needed], sort_keys=True)
        return hashlib.sha256(words.encode()).hexdigest()[:16]

    def _save(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(self._path) as aside:
            aside.write_text(json.dumps(self._entries, indent=2) + "\n", "utf-8")


def _changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Fields whose values differ, each as a phrase."""
    old, new = _flat(then), _flat(now)
    names = [name for name in dict.fromkeys([*old, *new]) if old.get(name) != new.get(name)]
    return [f"{name}={new.get(name)!r}, was {old.get(name)!r}" for name in names]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")  # pyright: ignore[reportUnknownArgumentType]
        else:
            flat[prefix + name] = value
    return flat
