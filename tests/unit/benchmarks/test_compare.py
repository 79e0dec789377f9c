"""A fresh run is held against the committed one by its ratios."""

import json
from pathlib import Path

import pytest

from benchmarks.compare import compared


def written(folder: Path, ratios: dict[str, float]) -> None:
    folder.mkdir()
    result = {"machine": {}, "figures": {"s": 1.0}, "ratios": ratios, "goals": {"fast": 1.5}}
    (folder / "steps.json").write_text(json.dumps(result), "utf-8")


@pytest.mark.parametrize(("now", "fell"), [(2.0, False), (1.61, False), (1.59, True), (9.0, False)])
def test_a_ratio_may_lose_a_fifth_of_what_it_was(now: float, fell: bool, tmp_path: Path) -> None:
    written(tmp_path / "before", {"fast": 2.0})
    written(tmp_path / "now", {"fast": now})
    (line,) = compared(tmp_path / "now", tmp_path / "before")
    assert line.fell(0.2) is fell
    assert (line.benchmark, line.name, line.goal) == ("steps", "fast", 1.5)


def test_a_ratio_that_is_gone_fell_and_one_without_a_baseline_did_not(tmp_path: Path) -> None:
    written(tmp_path / "before", {"fast": 2.0})
    written(tmp_path / "now", {"other": 2.0})
    gone, fresh = compared(tmp_path / "now", tmp_path / "before")
    assert (gone.name, gone.fresh, gone.fell(0.2)) == ("fast", None, True)
    assert (fresh.name, fresh.baseline, fresh.fell(0.2)) == ("other", None, False)


def test_a_benchmark_that_was_not_run_is_left_out(tmp_path: Path) -> None:
    written(tmp_path / "before", {"fast": 2.0})
    (tmp_path / "now").mkdir()
    assert not list(compared(tmp_path / "now", tmp_path / "before"))
