"""The order of problems: exact, whatever the step, the epoch or the interruption."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl.data.order import ShuffledOrder


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
