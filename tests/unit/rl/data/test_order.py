"""The order of problems: exact, whatever the step, the epoch or the interruption."""

from math import gcd
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl.data.order import (
    FileOrder,
    MixedOrder,
    PassRateOrder,
    ShuffledOrder,
    SortedOrder,
    turns,
)


@given(
    size=st.integers(1, 40), seed=st.integers(0, 2**32), count=st.integers(1, 50), epochs=st.just(3)
)
def test_steps_of_any_size_ask_everything_once_an_epoch(
    size: int, seed: int, count: int, epochs: int
) -> None:
    steps = -(-size * epochs // count)
    asked = [
        n for step in range(steps) for n in ShuffledOrder(size, seed).items(step * count, count)
    ]
    for epoch in range(epochs):
        assert sorted(asked[epoch * size : (epoch + 1) * size]) == list(range(size))


def test_the_order_is_the_same_on_every_machine() -> None:
    assert ShuffledOrder(8, seed=0).items(0, 16) == [
        3,
        2,
        1,
        6,
        0,
        7,
        4,
        5,
        7,
        4,
        5,
        1,
        6,
        2,
        0,
        3,
    ]


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    cursor = ShuffledOrder(100, seed=1)
    assert cursor.items(0, 100) != cursor.items(100, 100)
    assert cursor.items(0, 100) != ShuffledOrder(100, seed=2).items(0, 100)


def test_there_is_no_order_of_nothing() -> None:
    with pytest.raises(ValueError, match="0 things"):
        ShuffledOrder(0, seed=1)


def test_without_a_shuffle_epochs_are_the_data_itself() -> None:
    assert FileOrder(3).items(0, 7) == [0, 1, 2, 0, 1, 2, 0]


def test_a_sorted_epoch_goes_by_value_and_ties_are_shuffled_anew() -> None:
    values = [3.0, 1.0, 2.0, 1.0, 1.0, 1.0]
    order = SortedOrder(values, "low", ShuffledOrder(6, seed=1))
    first, second = order.items(0, 6), order.items(6, 6)
    for epoch in (first, second):
        assert [values[i] for i in epoch] == sorted(values)
    assert first != second
    assert SortedOrder(values, "high", FileOrder(6)).items(0, 6) == [0, 2, 1, 3, 4, 5]


def test_pass_rates_order_the_next_epoch_and_what_has_none_comes_last() -> None:
    order = PassRateOrder("high", FileOrder(4))
    assert order.items(0, 4) == [0, 1, 2, 3]
    for thing, rate in ((0, 0.25), (1, 1.0), (3, 0.5)):
        order.note(thing, rate)
    assert order.items(4, 2) == [1, 3]
    order.note(2, 0.75)  # within an epoch its order stands
    order.note(3, float("nan"))  # says nothing
    assert order.items(6, 2) == [0, 2]
    assert order.items(8, 4) == [1, 2, 3, 0]


@pytest.mark.parametrize(("first", "begins_with"), [("high", [7, 6]), ("low", [0, 1])])
def test_what_is_still_out_at_an_epochs_edge_is_not_asked_again_at_once(
    first: Literal["low", "high"], begins_with: list[int]
) -> None:
    order = PassRateOrder(first, FileOrder(10))
    assert order.items(0, 8) == list(range(8))
    for thing in range(8):
        order.note(thing, thing / 10)
    assert order.items(8, 4) == [8, 9, *begins_with]


def test_an_old_epoch_is_known_where_more_are_in_use_than_are_kept() -> None:
    order = PassRateOrder("high", FileOrder(2))
    assert order.items(0, 16) == [0, 1] * 8
    assert order.item(1) == 1  # of an epoch that was let go
    assert order.items(14, 4) == [0, 1] * 2


def test_turns_by_hand() -> None:
    assert turns([2, 1]).tolist() == [0, 1, 0]
    assert turns([1, 1, 1]).tolist() == [0, 1, 2]
    assert turns([7]).tolist() == [0]
    assert len(turns([0.5, 0.25, 0.25])) == 4
    assert turns([4, 2]).tolist() == turns([0.2, 0.1]).tolist()


@given(weights=st.lists(st.integers(1, 9), min_size=2, max_size=6))
def test_no_source_is_ever_a_whole_turn_away_from_its_share(weights: list[int]) -> None:
    cycle = turns(weights).tolist()
    for length in range(1, len(cycle) + 1):
        for source, weight in enumerate(weights):
            share = length * weight / sum(weights)
            assert abs(cycle[:length].count(source) - share) < 1
    common = gcd(*weights)
    assert [cycle.count(k) for k in range(len(weights))] == [w // common for w in weights]


def test_each_batch_of_a_mix_is_exact_and_each_source_goes_through_epochs_of_its_own() -> None:
    mix = MixedOrder([FileOrder(3), FileOrder(100)], [1, 3])
    batches = [[mix.item(8 * step + i) for i in range(8)] for step in range(4)]
    small = [[i for i in batch if i < 3] for batch in batches]
    assert small == [[0, 1], [2, 0], [1, 2], [0, 1]]
    large = [i - 3 for batch in batches for i in batch if i >= 3]
    assert large == list(range(24))


def test_a_mix_tells_each_source_of_its_own_pass_rates() -> None:
    mix = MixedOrder([FileOrder(2), PassRateOrder("low", FileOrder(2))], [1, 1])
    assert [mix.item(i) for i in range(4)] == [0, 2, 1, 3]
    mix.note(2, 0.9)
    mix.note(3, 0.1)
    again = MixedOrder([FileOrder(2), PassRateOrder("low", FileOrder(2))], [1, 1])
    again.restore(mix.state())
    for each in (mix, again):
        assert [each.item(i) for i in range(4, 8)] == [0, 3, 1, 2]
