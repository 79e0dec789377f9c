"""A fresh run is held against the committed one by its ratios."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks.compare import compared, main


def written(folder: Path, ratios: dict[str, float], name: str = "steps") -> None:
    folder.mkdir(exist_ok=True)
    result = {"machine": {}, "figures": {"s": 1.0}, "ratios": ratios, "goals": {"fast": 1.5}}
    (folder / f"{name}.json").write_text(json.dumps(result), "utf-8")


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


@pytest.mark.parametrize(("ratio", "status"), [("fast", 0), ("other", 1)])
def test_a_benchmark_that_was_not_run_is_named_and_only_a_ratio_missing_of_one_that_was_is_a_fault(
    ratio: str,
    status: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("steps", "sync", "memory"):
        written(tmp_path / "before", {"fast": 2.0}, name)
    written(tmp_path / "now", {ratio: 2.0})
    folders = [str(tmp_path / "now"), "--baselines", str(tmp_path / "before")]
    monkeypatch.setattr(sys, "argv", ["compare.py", *folders])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == status
    assert "not run, so not compared: memory, sync" in capsys.readouterr().out
