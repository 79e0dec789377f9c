"""The report has the figures, the protocol, and the paper's scores beside the five benchmarks."""

import json
from pathlib import Path

from rl.benchmarks.paper import PAPER_SCORES
from rl.benchmarks.report import write_report
from rl.run_log.benchmark_figures import benchmark_result
from tests.unit.rl.benchmarks.kept_answers import kept

PROTOCOL = {"model": "some/policy", "samples": 2, "temperature": 0.6}


def written(folder: Path, name: str) -> tuple[dict[str, object], str]:
    answers = [
        kept(p, s, sample)
        for p, *scores in (("a", 1.0, 0.0), ("b", 1.0, 1.0))
        for sample, s in enumerate(scores)
    ]
    write_report(folder, PROTOCOL, [benchmark_result(name, answers, 0)], {name: 3})
    return json.loads((folder / "summary.json").read_text()), (folder / "report.md").read_text()


def test_a_published_benchmark_stands_beside_the_paper(tmp_path: Path) -> None:
    summary, text = written(tmp_path, "math_500")
    assert summary["protocol"] == PROTOCOL
    figures = summary["benchmarks"]["math_500"]
    assert (figures["accuracy"], figures["pass@2"], figures["rejected_rows"]) == (0.75, 1.0, 3)
    assert figures["paper"]["percent"] == PAPER_SCORES["math_500"]
    assert PAPER_SCORES["math_500"]["R1V-38B"] == 94.0
    assert "| math_500 | 2 | 2 | 75.0 |" in text
    assert "| math_500 | 75.0 | 94 |" in text and "not measured here" in text
    assert "samples 2, temperature 0.6" in text


def test_rows_of_one_s_own_have_no_paper_beside_them(tmp_path: Path) -> None:
    summary, text = written(tmp_path, "mine")
    assert summary["benchmarks"]["mine"]["paper"] is None
    assert "paper" not in text
    assert "| mine | 75.0 |" in text.split("## Verdicts")[1]
