"""Two runs side by side: the same problems, paired; what only one has is left out and counted."""

from pathlib import Path

import pytest

from configs.jobs.evaluate import CompareRecipe
from rl.benchmarks.compare import compare, compare_runs
from rl.console.errors import UserError
from tests.unit.rl.benchmarks.kept_answers import kept, run_of


def runs(tmp_path: Path) -> tuple[Path, Path]:
    """Ten problems: the second run is right at eight of them, six more than the first."""
    first = [kept(f"p{i}", float(i < 2)) for i in range(10)]
    second = [kept(f"p{i}", float(i < 8)) for i in range(10)]
    return run_of(tmp_path / "a", "sums", first), run_of(tmp_path / "b", "sums", second)


def test_mcnemars_test_on_ten_problems_by_hand(tmp_path: Path) -> None:
    (found,) = compare(*runs(tmp_path), seed=0)
    test = found.test
    assert (found.name, test.problems, found.left_out) == ("sums", 10, 0)
    assert (test.first, test.second, test.difference) == pytest.approx((0.2, 0.8, 0.6))
    assert (test.first_better, test.second_better) == (0, 6)
    # Six of six discordant problems for one side: 2 / 2 ** 6.
    assert test.p_value == pytest.approx(2 / 64)
    assert test.interval.low > 0.2 and test.interval.high <= 1.0


def test_problems_that_only_one_run_could_score_or_asked_otherwise_are_left_out(
    tmp_path: Path,
) -> None:
    first = [kept("same", 1.0), kept("here", 1.0), kept("broken", None), kept("reworded", 1.0)]
    second = [
        kept("same", 0.0),
        kept("there", 1.0),
        kept("broken", 1.0),
        kept("reworded", 1.0, question="!"),
    ]
    pair = run_of(tmp_path / "a", "sums", first), run_of(tmp_path / "b", "sums", second)
    (found,) = compare(*pair, seed=0)
    assert (found.test.problems, found.left_out) == (1, 4)


def test_runs_without_anything_in_common_are_refused_by_what_they_have(tmp_path: Path) -> None:
    first, second = runs(tmp_path)
    other = run_of(tmp_path / "c", "words", [kept("p0", 1.0)])
    with pytest.raises(UserError, match=r"answers to sums, and .* to words: no benchmark in"):
        compare(first, other, seed=0)
    stranger = run_of(tmp_path / "d", "sums", [kept("q0", 1.0)])
    with pytest.raises(UserError, match="share no scored problem of sums"):
        compare(second, stranger, seed=0)
    with pytest.raises(UserError, match="holds no answers of an evaluation"):
        compare(first, tmp_path, seed=0)


def test_the_comparison_is_shown_and_written_as_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = runs(tmp_path)
    out = tmp_path / "new" / "table.md"
    compare_runs(CompareRecipe(first=str(first), second=str(second), out=str(out)))
    text = out.read_text()
    assert "| sums | 10 | 20.0 | 80.0 | +60.0 |" in text and "| 0 / 6 | 0.0312 (" in text
    assert f"first: {first}" in text
    assert "+60.0" in capsys.readouterr().out
