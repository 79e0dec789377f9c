"""Ways are timed by turns, and compared round by round."""

from benchmarks.measuring import by_turns, times_faster


def test_ways_take_turns_and_warm_up_rounds_do_not_count() -> None:
    ran: list[str] = []
    took = by_turns({"a": lambda: ran.append("a"), "b": lambda: ran.append("b")}, 2, warm_up=1)
    assert ran == ["a", "b"] * 3
    assert [len(seconds) for seconds in took.values()] == [2, 2]


def test_a_round_in_which_the_machine_was_slow_for_both_changes_no_ratio() -> None:
    took = {"fast": [1.0, 10.0, 1.0], "slow": [3.0, 30.0, 2.0]}
    assert times_faster(took, "fast", "slow") == 3.0
