"""Intervals and paired tests, with numbers worked by hand."""

import math

import numpy as np
import pytest

from rl.run_log.significance import bootstrap_interval, paired_test, sign_test


def test_an_interval_of_equal_scores_has_no_width() -> None:
    assert bootstrap_interval([0.25] * 7) == (0.25, 0.25)


def test_an_interval_is_that_of_the_binomial_where_scores_are_0_or_1() -> None:
    low, high = bootstrap_interval([1.0] * 40 + [0.0] * 60)
    # 2.5 % and 97.5 % points of Binomial(100, 0.4) are 31 and 50.
    assert low == pytest.approx(0.31, abs=0.011) and high == pytest.approx(0.50, abs=0.011)


def test_the_same_seed_gives_the_same_interval_and_order_does_not_widen_it() -> None:
    scores = list(np.random.default_rng(0).random(50))
    assert bootstrap_interval(scores, seed=4) == bootstrap_interval(scores, seed=4)
    low, high = bootstrap_interval(scores)
    turned = bootstrap_interval(scores[::-1])
    assert turned == pytest.approx((low, high), abs=0.01)


def test_more_confidence_is_a_wider_interval() -> None:
    scores = [0.0, 0.2, 0.4, 0.9, 1.0, 0.3]
    wide, narrow = (bootstrap_interval(scores, confidence=c) for c in (0.99, 0.5))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_many_problems_are_drawn_in_parts_and_none_is_refused() -> None:
    low, high = bootstrap_interval([0.0, 1.0] * 1000, resamples=1100)
    assert 0.47 < low < 0.5 < high < 0.53
    with pytest.raises(ValueError, match="no values"):
        bootstrap_interval([])


@pytest.mark.parametrize(
    ("first", "second", "p"),
    [
        (0, 0, 1.0),
        (5, 5, 1.0),
        (0, 5, 2 / 32),
        (1, 9, 2 * (1 + 10) / 1024),
        (9, 1, 2 * (1 + 10) / 1024),
    ],
)
def test_the_sign_test_counts_coins(first: int, second: int, p: float) -> None:
    assert sign_test(first, second) == pytest.approx(p)


def test_mcnemar_looks_at_discordant_problems_alone() -> None:
    first = [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    second = [1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0]
    told = paired_test(first, second)
    assert (told.test, told.problems) == ("McNemar, exact", 8)
    assert (told.first_better, told.second_better) == (1, 5)
    assert told.p_value == pytest.approx(2 * (1 + 6) / 64)
    assert (told.first, told.second, told.difference) == (0.25, 0.75, 0.5)
    longer = paired_test(first + [1.0] * 50, second + [1.0] * 50)
    assert longer.p_value == told.p_value


def test_shares_are_compared_by_their_signs_and_turning_them_turns_the_difference() -> None:
    first, second = [0.2, 0.5, 1.0], [0.6, 0.5, 0.8]
    told, turned = paired_test(first, second), paired_test(second, first)
    assert told.test == "sign test"
    assert (told.first_better, told.second_better) == (1, 1) and told.p_value == 1.0
    assert told.difference == pytest.approx(0.2 / 3)
    assert turned.difference == pytest.approx(-told.difference)
    assert turned.interval.high == pytest.approx(-told.interval.low, abs=0.02)


def test_pairs_make_an_interval_narrower_than_two_apart() -> None:
    rng = np.random.default_rng(1)
    hard = rng.random(200)
    first, second = hard * 0.8, hard * 0.8 + 0.02
    low, high = paired_test(list(first), list(second)).interval
    assert math.isclose(low, 0.02) and math.isclose(high, 0.02)
