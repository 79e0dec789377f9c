"""Finished stages are skipped; changed ones run again, and so does all that follows them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from rl.stages.ledger import Figures, Stage, StageLedger


class Course:
    """Three stages: b needs a, c needs b; counts how each is run."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "stages.json"
        self.ran: list[tuple[str, bool]] = []
        self.settings: dict[str, Mapping[str, Any]] = {name: {"x": {"y": 1}} for name in "abc"}
        self.broken = ""

    def stages(self) -> list[Stage]:
        needs = {"a": (), "b": ("a",), "c": ("b",)}
        return [
            Stage(
                name,
                self.settings[name],
                needs[name],
                lambda resume, name=name: self._do(name, resume),
            )
            for name in "abc"
        ]

    def _do(self, name: str, resume: bool) -> Figures:
        self.ran.append((name, resume))
        if name == self.broken:
            raise KeyboardInterrupt
        return {"made": name}

    def run(self) -> list[tuple[str, bool]]:
        """What ran, each with whether it went on from what a killed try left."""
        self.ran.clear()
        StageLedger(self.path).run(self.stages(), lambda name, figures: None)
        return list(self.ran)

    def why(self) -> list[str]:
        return [state.why for state in StageLedger(self.path).states(self.stages())]


def test_a_rerun_skips_what_is_finished_and_keeps_its_figures(tmp_path: Path) -> None:
    course = Course(tmp_path)
    assert course.why() == ["not run yet"] * 3
    assert course.run() == [("a", False), ("b", False), ("c", False)]
    assert course.run() == [] and course.why() == ["", "", ""]
    figures = StageLedger(course.path).figures("b")
    assert figures["made"] == "b" and figures["wall_s"] >= 0


def test_a_changed_setting_invalidates_its_stage_and_all_that_follow(tmp_path: Path) -> None:
    course = Course(tmp_path)
    course.run()
    course.settings["b"] = {"x": {"y": 2}}
    assert course.why() == ["", "the recipe changed: x.y=2, was 1", "follows b"]
    assert course.run() == [("b", False), ("c", False)]
    assert course.run() == []


def test_a_killed_stage_goes_on_and_those_behind_it_start(tmp_path: Path) -> None:
    course = Course(tmp_path)
    course.broken = "b"
    with pytest.raises(KeyboardInterrupt):
        course.run()
    course.broken = ""
    assert course.why() == ["", "was not finished", "not run yet"]
    assert course.run() == [("b", True), ("c", False)]


def test_a_killed_stage_whose_settings_changed_starts_anew(tmp_path: Path) -> None:
    course = Course(tmp_path)
    course.broken = "b"
    with pytest.raises(KeyboardInterrupt):
        course.run()
    course.broken, course.settings["b"] = "", {}
    assert course.why()[1] == "the recipe changed: x.y=None, was 1"
    assert course.run() == [("b", False), ("c", False)]


def test_a_stage_runs_again_where_what_it_needs_was_run_again_meanwhile(tmp_path: Path) -> None:
    course = Course(tmp_path)
    course.run()
    course.settings["a"] = {"x": 3}
    course.broken = "b"
    with pytest.raises(KeyboardInterrupt):
        course.run()
    course.broken = ""
    assert course.why() == ["", "was not finished", "follows b"]
    assert course.run() == [("b", True), ("c", False)]
