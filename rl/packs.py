"""Which chats share a forward pass: packs within a token budget, equally many for every rank."""

from bisect import bisect_left, insort
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Pack = tuple[int, ...]
"""Places of the chats that lie behind one another in one row; empty: filler."""


def plan_packs(
    lengths: NDArray[np.int32],
    places: Sequence[int],
    budget: int,
    ranks: int,
    packing: bool = True,
) -> list[tuple[Pack, ...]]:
    """For each rank its packs, equally many; where they do not divide, some ranks end in filler.

    Best fit, longest first: a chat goes where it leaves the least room. Attention costs the square
    of a chat's length, so packs are dealt out in the order of that cost, and what ranks do at the
    same time takes them about equally long. A function of its arguments alone.

    Args:
        lengths: [n] tokens of every chat there is.
        places: the chats to pack, each once.
        budget: most tokens of a pack.
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
    packs = _best_fit(longest_first, sizes, budget) if packing else [(p,) for p in longest_first]
    packs.sort(key=lambda pack: -sum(sizes[place] ** 2 for place in pack))
    packs += [()] * (-len(packs) % ranks)
    return [tuple(packs[rank::ranks]) for rank in range(ranks)]


def _best_fit(longest_first: Sequence[int], sizes: dict[int, int], budget: int) -> list[Pack]:
    packs: list[list[int]] = []
    rooms: list[tuple[int, int]] = []  # (tokens that still fit, pack), in that order
    for place in longest_first:
        fits = bisect_left(rooms, (sizes[place], 0))
        room, pack = rooms.pop(fits) if fits < len(rooms) else (budget, len(packs))
        if pack == len(packs):
            packs.append([])
        packs[pack].append(place)
        insort(rooms, (room - sizes[place], pack))
    return [tuple(pack) for pack in packs]
