"""Items that are made in a thread while those before them are worked on."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from rl.data.prefetch import prefetch


def test_the_next_item_is_made_while_one_is_worked_on_and_none_beyond_it() -> None:
    begun = {number: threading.Event() for number in range(4)}

    def make(number: int) -> int:
        begun[number].set()
        return 10 * number

    with ThreadPoolExecutor(1) as pool:
        items = prefetch(pool, make, range(4))
        assert next(items) == 0
        assert begun[1].wait(10), "made before anybody has asked for it"
        assert not begun[2].is_set()
        assert list(items) == [10, 20, 30]


def test_what_fails_to_be_made_is_raised_in_its_turn() -> None:
    with ThreadPoolExecutor(1) as pool:
        items = prefetch(pool, lambda number: 1 // number, [1, 0])
        assert next(items) == 1
        with pytest.raises(ZeroDivisionError):
            next(items)
