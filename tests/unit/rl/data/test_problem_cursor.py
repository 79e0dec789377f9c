"""A run that goes on loses no problem and repeats none, whatever was under way."""

import json
from pathlib import Path

import pytest

from rl.data.order import EpochOrder, FileOrder, PassRateOrder, ShuffledOrder
from rl.data.records import Problem
from rl.data.training_problems import ProblemCursor

NAN = float("nan")


def cursor(order: EpochOrder) -> ProblemCursor:
    return ProblemCursor(order, lambda places: [Problem(str(p), "?", ("1",)) for p in places])


def ids(problems: list[Problem]) -> list[str]:
    return [problem.id for problem in problems]


def finish(of: ProblemCursor, problems: list[Problem], rate: float = NAN) -> None:
    of.done([(problem, rate) for problem in problems])


def resumed(old: ProblemCursor, order: EpochOrder, folder: Path) -> ProblemCursor:
    old.save(folder / "problems.json")
    again = cursor(order)
    again.restore(folder / "problems.json")
    return again


def test_a_whole_epoch_is_handed_out_once_though_the_run_stopped_in_it(tmp_path: Path) -> None:
    run, asked = cursor(ShuffledOrder(9, seed=3)), list[str]()
    for _ in range(3):
        problems = run.take(2)
        finish(run, problems)
        asked += ids(problems)
    run = resumed(run, ShuffledOrder(9, seed=3), tmp_path)
    asked += ids(run.take(3))
    assert sorted(asked) == sorted("012345678")
    assert asked == ids(cursor(ShuffledOrder(9, seed=3)).take(9))


def test_what_was_under_way_is_asked_again_first_and_in_its_order(tmp_path: Path) -> None:
    run = cursor(FileOrder(20))
    first, second, third = run.take(3), run.take(3), run.take(3)
    finish(run, second)  # a later step's may be done before an earlier one's
    run = resumed(run, FileOrder(20), tmp_path)
    assert ids(run.take(4)) == ids(first) + ids(third)[:1]
    # Stopped once more, before any of these is done.
    run = resumed(run, FileOrder(20), tmp_path)
    assert ids(run.take(8)) == [*ids(first), *ids(third), "9", "10"]


def test_a_problem_that_is_out_twice_is_done_once_at_a_time(tmp_path: Path) -> None:
    run = cursor(FileOrder(2))
    problems = run.take(3)
    assert ids(problems) == ["0", "1", "0"]
    finish(run, problems[:1])
    assert ids(resumed(run, FileOrder(2), tmp_path).take(3)) == ["1", "0", "1"]


def test_what_was_never_handed_out_cannot_be_done() -> None:
    run = cursor(FileOrder(2))
    finish(run, run.take(1))
    with pytest.raises(KeyError):
        finish(run, [Problem("0", "?", ("1",))])


def test_measured_rates_outlive_a_resume_and_so_does_the_epoch_they_ordered(
    tmp_path: Path,
) -> None:
    def order() -> PassRateOrder:
        return PassRateOrder("high", FileOrder(4))

    run = cursor(order())
    for problem in run.take(4):
        run.done([(problem, float(problem.id) / 4)])
    begun = run.take(2)
    assert ids(begun) == ["3", "2"]
    finish(run, begun, 0.0)
    again = resumed(run, order(), tmp_path)
    assert ids(again.take(2)) == ids(run.take(2)) == ["1", "0"]
    assert ids(again.take(4)) == ids(run.take(4)) == ["1", "0", "2", "3"]


def test_of_far_more_under_way_than_there_are_problems_none_is_lost(tmp_path: Path) -> None:
    run = cursor(PassRateOrder("high", FileOrder(2)))
    problems = run.take(16)
    for problem, rate in zip(problems[:3], (0.25, 0.75, 0.25), strict=True):
        run.done([(problem, rate)])
    again = resumed(run, PassRateOrder("high", FileOrder(2)), tmp_path)
    # By the rates that are known now the first epochs would have begun with problem 1.
    assert ids(again.take(13)) == ids(problems[3:])
    assert ids(again.take(2)) == ids(run.take(2)) == ["1", "0"]


def test_a_checkpoint_without_the_places_of_what_was_under_way_finds_them_by_the_order(
    tmp_path: Path,
) -> None:
    run, saved = cursor(PassRateOrder("high", FileOrder(2))), tmp_path / "problems.json"
    run.take(16)
    run.save(saved)
    state = json.loads(saved.read_text())
    del state["places"]
    saved.write_text(json.dumps(state))
    again = cursor(PassRateOrder("high", FileOrder(2)))
    again.restore(saved)
    assert ids(again.take(16)) == list("01" * 8)


def test_a_checkpoint_of_an_earlier_version_goes_on_by_its_steps(tmp_path: Path) -> None:
    run = cursor(FileOrder(20))
    run.restore(tmp_path / "problems.json", before=6)
    assert ids(run.take(2)) == ["6", "7"]
