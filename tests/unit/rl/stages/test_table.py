"""The table of policies: on the console, in files, and beside the paper's row where it fits."""

import json
from pathlib import Path

from rl.stages.table import PAPER, Row, write_table


def row(policy: str, accuracy: float) -> Row:
    figures = {
        "accuracy": accuracy,
        "low": accuracy - 0.05,
        "high": accuracy + 0.05,
        "mean_length": 20.25,
        "truncated_share": 0.0,
        "think_share": 0.5,
    }
    return Row(policy, policy.lower(), 61.4, {"pictures": figures, "words": figures})


def test_a_row_has_accuracies_with_intervals_length_thinking_and_seconds(tmp_path: Path) -> None:
    write_table(tmp_path, "trial", [row("M'", 0.5), row("GRPO", 0.9)])
    lines = (tmp_path / "policies.md").read_text().splitlines()
    assert lines[0] == "# trial"
    assert lines[4] == (
        "| policy | pictures, % | words, % | tokens, pictures | thinking, pictures, % | stage, s |"
    )
    assert lines[6] == "| M' | 50.0 (45.0-55.0) | 50.0 (45.0-55.0) | 20.2 | 50 | 61 |"
    assert lines[7].startswith("| GRPO | 90.0 (85.0-95.0) |")
    found = json.loads((tmp_path / "policies.json").read_text())
    assert [each["policy"] for each in found] == ["M'", "GRPO"]
    assert found[1]["sets"]["words"]["accuracy"] == 0.9
    assert (tmp_path / "policies.png").stat().st_size > 5_000


def test_as_many_policies_as_the_paper_has_stand_beside_its_figures(tmp_path: Path) -> None:
    names = ["M'", "swapped", "M0", "M1", "M2", "M3", "M4", "GRPO"]
    write_table(tmp_path, "whole", [row(name, 0.6) for name in names])
    lines = (tmp_path / "policies.md").read_text().splitlines()
    assert lines[4].endswith("| paper, MMMU |")
    assert [line.split("|")[-2].strip() for line in lines[6:]] == [f"{x:.1f}" for x in PAPER]
