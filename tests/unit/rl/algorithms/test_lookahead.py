"""Rollouts ahead of the learner: how far, how late, and never too late."""

import pytest

from rl.algorithms.lookahead import Lookahead, StaleRollout, check_staleness
from tests.unit.step_samples import Ready, answer, scored


def lookahead(first: int, stop: int, depth: int) -> tuple[Lookahead[int], list[int]]:
    asked: list[int] = []

    def submit(step: int) -> Ready[int]:
        asked.append(step)
        return Ready(step)

    return Lookahead(submit, first=first, stop=stop, depth=depth), asked


def test_on_policy_a_step_is_asked_only_when_it_is_taken() -> None:
    ahead, asked = lookahead(first=0, stop=3, depth=0)
    assert asked == []
    for step in range(3):
        assert ahead.next_result() == step
        assert asked == list(range(step + 1))


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("first", [0, 7])
def test_a_deeper_one_asks_so_many_steps_beyond_the_taken_and_none_beyond_the_last(
    first: int, depth: int
) -> None:
    stop = first + 6
    ahead, asked = lookahead(first, stop, depth)
    for step in range(first, stop):
        assert ahead.next_result() == step
        assert asked == list(range(first, min(stop, step + depth + 1)))


def test_results_come_in_the_order_of_steps_and_failures_with_their_own() -> None:
    class Failed:
        seconds = 0.1

        def result(self) -> int:
            raise ConnectionError("the engine left")

    ahead = Lookahead(lambda step: Failed() if step == 1 else Ready(step), first=0, stop=3, depth=2)
    assert ahead.next_result() == 0
    with pytest.raises(ConnectionError):
        ahead.next_result()
    assert ahead.next_result() == 2


def test_a_step_asked_ahead_took_its_share_of_the_engines_not_what_was_waited_for_it() -> None:
    ahead = Lookahead(lambda step: Ready(step, seconds=step + 2.0), first=0, stop=3, depth=1)
    for step in range(3):
        ahead.next_result()
        assert ahead.seconds == step + 2.0


def test_answers_of_the_oldest_version_allowed_pass() -> None:
    group = scored([1.0, 0.0], answers=[answer(2, version=5), answer(2, version=4)])
    check_staleness([group], oldest=4)


def test_one_late_answer_is_named_with_both_versions() -> None:
    fresh = scored([1.0, 0.0], answers=[answer(2, version=5)] * 2)
    late = scored([1.0, 0.0], name="late", answers=[answer(2, version=5), answer(2, version=3)])
    with pytest.raises(StaleRollout, match=r"'late' comes from policy version 3, older than .* 4"):
        check_staleness([fresh, late], oldest=4)
