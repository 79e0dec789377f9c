"""Forward passes within a token budget, planned from lengths alone, equally many for every rank."""

from bisect import bisect_left, insort
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Batch = tuple[int, ...]
"""Places of the rows of one forward pass; none: filler."""
PackRow = tuple[int, ...]
"""Places of the chats that lie behind one another."""
Pack = tuple[PackRow, ...]
"""Rows of one forward pass; none: filler."""


def plan_batches(lengths: Sequence[int], budget: int, ranks: int) -> list[tuple[Batch, ...]]:
    """For each rank its batches of rows, equally many, each within `budget` tokens when padded.

    Rows of like length lie together, so little is padding, and ranks get about equal work.

    Args:
        lengths: tokens of each row, at most `budget`.
        budget: most tokens of a batch, rows filled up to the longest.
        ranks: entries of the result.
    """
    longest_first = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    share = -(-len(lengths) // ranks)
    batches: list[list[int]] = []
    for index in longest_first:
        last = batches[-1] if batches else []
        # The first row of a batch sets its width. No batch takes more than a rank's share, or
        # other ranks would idle.
        if last and len(last) < share and lengths[last[0]] * (len(last) + 1) <= budget:
            last.append(index)
        else:
            batches.append([index])
    batches += [[] for _ in range(-len(batches) % ranks)]
    return [tuple(map(tuple, batches[rank::ranks])) for rank in range(ranks)]


def plan_packs(
    lengths: NDArray[np.int32],
    indices: Sequence[int],
    budget: int,
    ranks: int,
    packing: bool = True,
) -> list[tuple[Pack, ...]]:
    """For each rank its packs of chats, equally many; some ranks may end in filler.

    A pack has as many rows as the longest chat leaves room for, not one long row: under a dense
    mask a token costs the length of its row. Chats are laid into rows by best fit, longest first.
    Rows are dealt to packs in the order of what their attention costs, the sum of squared lengths,
    so what ranks do at the same time takes them about equally long.

    Args:
        lengths: int32 [n], tokens of every chat there is.
        indices: the chats to pack, each once.
        budget: most tokens of a pack, rows filled up to the longest.
        ranks: entries of the result.
        packing: False: each chat alone.

    Raises:
        ValueError: a chat is longer than `budget`.
    """
    sizes = {index: int(lengths[index]) for index in indices}
    longest_first = sorted(sizes, key=lambda index: (-sizes[index], index))
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
    rows.sort(key=lambda row: -sum(sizes[index] ** 2 for index in row))
    passes = -(-len(rows) // most)
    passes += -passes % ranks
    packs = [tuple(rows[number::passes]) for number in range(passes)]
    return [tuple(packs[rank::ranks]) for rank in range(ranks)]


def _best_fit(longest_first: Sequence[int], sizes: dict[int, int], width: int) -> list[PackRow]:
    rows: list[list[int]] = []
    rooms: list[tuple[int, int]] = []  # (tokens that still fit, row), in that order
    for index in longest_first:
        fits = bisect_left(rooms, (sizes[index], 0))
        room, row = rooms.pop(fits) if fits < len(rooms) else (width, len(rows))
        if row == len(rows):
            rows.append([])
        rows[row].append(index)
        insort(rooms, (room - sizes[index], row))
    return [tuple(row) for row in rows]
