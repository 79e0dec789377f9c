"""Which chats share a forward pass: packs within a token budget, equally many for every rank.

A pack is a few rows of chats. One long row would hold as many, but short chats attend under a mask,
which costs each token the length of its row, whether it may see all of it or not.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

PackRow = tuple[int, ...]
"""Places of the chats that lie behind one another."""
Pack = tuple[PackRow, ...]
"""Rows of one forward pass; none: filler."""


def plan_packs(
    lengths: NDArray[np.int32],
    places: Sequence[int],
    budget: int,
    ranks: int,
    packing: bool = True,
) -> list[tuple[Pack, ...]]:
    """For each rank its packs, equally many; where they do not divide, some ranks end in filler.

    A pack has as many rows as the longest chat leaves room for. Chats are laid into rows by best
    fit, longest first: a chat goes where it leaves the least room. Rows are dealt out to packs in
    the order of what their attention costs, the sum of squared lengths, so what ranks do at the
    same time takes them about equally long. A function of its arguments alone.

    Args:
        lengths: [n] tokens of every chat there is.
        places: the chats to pack, each once.
        budget: most tokens of a pack, rows filled up to the longest.
        ranks: entries of the result.
        packing: False: each chat alone.

    Raises:
        ValueError: a chat is longer than `budget`.
    """
    sizes = {place: int(lengths[place]) for place in places}
    longest_first = sorted(sizes, key=lambda place: (-sizes[place], place))
    if longest_first and sizes[longest_first[0]] > budget:
        raise ValueError(
            f"chat {longest_first[0]} has {sizes[longest_first[0]]:,} tokens, more than a pack's "
            f"{budget:,}; raise that budget, or let in shorter chats only"
        )
    most = budget // max(1, *sizes.values()) if packing and sizes else 1
    rows = (
        _best_fit(longest_first, sizes, budget // most)
        if packing
        else [(p,) for p in longest_first]
    )
    rows.sort(key=lambda row: -sum(sizes[place] ** 2 for place in row))
    passes = -(-len(rows) // most)
    passes += -passes % ranks
    packs = [tuple(rows[number::passes]) for number in range(passes)]
    return [tuple(packs[rank::ranks]) for rank in range(ranks)]


def _best_fit(longest_first: Sequence[int], sizes: dict[int, int], width: int) -> list[PackRow]:
    rows: list[list[int]] = []
    rooms: list[tuple[int, int]] = []  # (tokens that still fit, row), in that order
    for place in longest_first:
        fits = bisect_left(rooms, (sizes[place], 0))
        room, row = rooms.pop(fits) if fits < len(rooms) else (width, len(rows))
        if row == len(rows):
            rows.append([])
        rows[row].append(place)
        insort(rooms, (room - sizes[place], row))
    return [tuple(row) for row in rows]
