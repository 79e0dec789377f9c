"""The checks before step 1 say where engine and learner part."""

import pytest

from rl.algorithms.parity import ParityError, check_logprobs, check_prompts, parity_rows
from rl.data.records import Answer, Group, Problem


def group(name: str, prompt: tuple[int, ...], *logprobs: tuple[float, ...]) -> Group:
    answers = tuple(Answer((5,) * len(each), each, "", "stop", 0) for each in logprobs)
    return Group(Problem(name, "?", ("1",)), prompt, answers)


def name_token(token: int) -> str:
    return f"t{token}"


def test_equal_prompts_pass() -> None:
    groups = [group("a", (1, 2, 3)), group("b", (4,))]
    check_prompts(groups, [(1, 2, 3), (4,)], name_token)


def test_the_first_difference_is_shown_with_what_stands_around_it() -> None:
    engine, learner = tuple(range(10, 22)), (*range(10, 15), 99, *range(16, 22))
    with pytest.raises(ParityError) as caught:
        check_prompts([group("a", (1,)), group("b", engine)], [(1,), learner], name_token)
    told = str(caught.value)
    assert "'b'" in told and "12 tokens, the learner's 12" in told and "part at token 5" in told
    assert "engine:  't12'(12) 't13'(13) 't14'(14) 't15'(15) 't16'(16) 't17'(17) 't18'(18)" in told
    assert "learner: 't12'(12) 't13'(13) 't14'(14) 't99'(99) 't16'(16)" in told
    assert "t11" not in told and "t19" not in told


def test_prompts_part_where_one_of_them_ends() -> None:
    with pytest.raises(ParityError) as caught:
        check_prompts([group("a", (1, 2))], [(1, 2, 3, 4)], name_token)
    assert "has 2 tokens, the learner's 4, and they part at token 2" in str(caught.value)
    with pytest.raises(ParityError, match=r"engine:  \(ends\)"):
        check_prompts([group("a", ())], [(1, 2)], name_token)


def test_answers_are_numbered_through_all_groups() -> None:
    rows = parity_rows([group("a", (1,), (-1.0,), (-2.0, -3.0)), group("b", (2,), (-4.0,))])
    assert [[a.index for a in row.answers] for row in rows] == [[0, 1], [2]]
    assert rows[0].answers[1].sampler_logprobs == (-2.0, -3.0)
    assert rows[1].prompt_ids == (2,)


def test_the_gap_is_the_mean_over_tokens_not_over_answers() -> None:
    rows = parity_rows([group("a", (1,), (-1.0, -1.0, -1.0), (-2.0,))])
    learner = {0: (-1.0, -1.1, -1.0), 1: (-1.7,)}
    assert check_logprobs(rows, learner, bound=0.2) == pytest.approx((0.1 + 0.3) / 4)


def test_a_gap_over_the_bound_shows_the_worst_token() -> None:
    rows = parity_rows([group("a", (1,), (-1.0, -1.0)), group("b", (1,), (-1.0, -2.5))])
    with pytest.raises(ParityError) as caught:
        check_logprobs(rows, {0: (-1.0, -1.0), 1: (-1.0, -0.5)}, bound=0.1)
    told = str(caught.value)
    assert "0.5 nats apart" in told and "preflight.max_logprob_gap=0.1" in told
    assert "token 1 of an answer to problem 'b': engine -2.5000, learner -0.5000" in told


def test_a_logprob_that_is_no_number_never_passes() -> None:
    rows = parity_rows([group("a", (1,), (-1.0, -1.0))])
    with pytest.raises(ParityError):
        check_logprobs(rows, {0: (-1.0, float("nan"))}, bound=10.0)
