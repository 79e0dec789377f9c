"""Packs hold every chat once, fit their budget row by row, and are as many on every rank."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl.data.microbatches import plan_packs


def sizes(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int32)


def test_the_longest_go_first_and_each_where_it_leaves_the_least_room() -> None:
    lengths = sizes(5, 3, 8, 2, 4)
    # 8 alone leaves 2, 5 leaves 5; 4 goes to the 5 (leaves 1), 3 opens a third, 2 closes the first.
    assert plan_packs(lengths, range(5), 10, 1) == [(((2, 3),), ((0, 4),), ((1,),))]


def test_a_pack_has_as_many_rows_as_the_longest_chat_leaves_room_for() -> None:
    lengths = sizes(5, 3, 8, 2, 4)
    # Twice 8 fits in 20 and three times does not: rows of 10, two a pack. Costs are 68, 41 and 9.
    assert plan_packs(lengths, range(5), 20, 1) == [(((2, 3), (1,)), ((0, 4),))]
    # Three rows of 9 hold 8, 5 + 4 and 3 + 2.
    assert plan_packs(lengths, range(5), 27, 1) == [(((2,), (0, 4), (1, 3)),)]


def test_ranks_meet_packs_of_like_cost_and_the_last_get_filler() -> None:
    lengths = sizes(5, 3, 8, 2, 4)
    # Costs are 8*8 + 2*2 = 68, 5*5 + 4*4 = 41 and 9.
    assert plan_packs(lengths, range(5), 10, 2) == [(((2, 3),), ((1,),)), (((0, 4),), ())]
    assert plan_packs(lengths, range(5), 20, 2) == [(((2, 3), (1,)),), (((0, 4),),)]
    assert plan_packs(lengths, [1], 10, 3) == [(((1,),),), ((),), ((),)]
    assert plan_packs(lengths, [], 10, 2) == [(), ()]


def test_without_packing_each_chat_is_alone() -> None:
    plan = plan_packs(sizes(5, 3, 8, 2), [3, 0, 2], 10, 2, packing=False)
    assert plan == [(((2,),), ((3,),)), (((0,),), ())]


def test_a_chat_beyond_the_budget_is_refused_by_its_place() -> None:
    with pytest.raises(ValueError, match=r"chat 1 has 1,001 tokens, more than a pack's 1,000"):
        plan_packs(sizes(3, 1001), [0, 1], 1000, 1)


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=60),
    st.integers(50, 400),
    st.integers(1, 5),
    st.randoms(use_true_random=False),
)
def test_any_chats_are_packed_whole_once_and_tightly(
    values: list[int], budget: int, ranks: int, chance: object
) -> None:
    lengths = sizes(*values)
    places = list(range(0, len(values), 2))
    plan = plan_packs(lengths, places, budget, ranks)
    assert len(plan) == ranks
    assert len({len(packs) for packs in plan}) == 1
    packs = [pack for share in plan for pack in share]
    rows = [row for pack in packs for row in pack]
    assert sorted(place for row in rows for place in row) == places
    totals = [int(lengths[list(row)].sum()) for row in rows]
    most = budget // int(lengths[places].max())
    assert max(totals) <= budget // most and max(map(len, packs)) <= most
    # No two rows would fit in one, so all but one are more than half full.
    totals.sort()
    assert len(totals) < 2 or totals[0] + totals[1] > budget // most
    assert len(packs) - ranks < len(rows) / most
    shuffled = list(places)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert plan_packs(lengths, shuffled, budget, ranks) == plan
