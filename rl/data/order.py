"""Which problem comes when: an order that a position alone decides, so that resuming is exact."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate
from math import isnan, lcm
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

_EPOCHS_KEPT = 4
"""Of an order's epochs; a window spans two of them at most, but for the smallest data."""


class EpochOrder:
    """An endless order over `size` things: each epoch is a permutation of all of them."""

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"there are {size} things to put in order; give at least one")
        self.size = size
        self._epochs: dict[int, NDArray[np.int64]] = {}

    def item(self, position: int) -> int:
        """The thing at `position` >= 0, counted from the start of the first epoch."""
        epoch, index = divmod(position, self.size)
        if epoch not in self._epochs:
            self._epochs[epoch] = self._epoch(epoch)
        self._epochs[epoch] = self._epochs.pop(epoch)  # the newest in use stands last
        for unused in list(self._epochs)[:-_EPOCHS_KEPT]:
            del self._epochs[unused]
        return int(self._epochs[epoch][index])

    def items(self, start: int, count: int) -> list[int]:
        """The things at `count` positions from `start` on; windows that touch share nothing."""
        return [self.item(position) for position in range(start, start + count)]

    def note(self, thing: int, rate: float) -> None:
        """Hear how often `thing` was answered right; most orders do not go by it."""

    def state(self) -> dict[str, Any]:
        """What the order knows beyond its seed, as JSON."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Know what `state` told."""

    def _epoch(self, number: int) -> NDArray[np.int64]:
        """int64 [size]: the permutation of an epoch."""
        raise NotImplementedError


class FileOrder(EpochOrder):
    """The data's own order, epoch after epoch."""

    def _epoch(self, number: int) -> NDArray[np.int64]:
        return np.arange(self.size)


class ShuffledOrder(EpochOrder):
    """Each epoch is a new shuffle, a pure function of seed and epoch."""

    def __init__(self, size: int, seed: int) -> None:
        super().__init__(size)
        self.seed = seed

    def _epoch(self, number: int) -> NDArray[np.int64]:
        return _permutation(self.size, self.seed, number)


class SortedOrder(EpochOrder):
    """Each epoch goes through the things by a value of each; ties come as in `ties`."""

    def __init__(
        self, values: Sequence[float], first: Literal["low", "high"], ties: EpochOrder
    ) -> None:
        super().__init__(len(values))
        self._values_N = np.array(values, dtype=np.float64)
        self._sign = 1.0 if first == "low" else -1.0
        self._ties = ties

    def _epoch(self, number: int) -> NDArray[np.int64]:
        """What has no value yet (NaN) comes last: at an epoch's edge that is what is still out, and
        would else come again at once."""
        things_N = np.array(self._ties.items(number * self.size, self.size), dtype=np.int64)
        keys_N = self._sign * self._values_N[things_N]  # NaN is sorted last, whatever its sign
        return things_N[np.argsort(keys_N, kind="stable")]


class PassRateOrder(SortedOrder):
    """Each epoch goes through the things by how often they were answered right before it."""

    def __init__(self, first: Literal["low", "high"], ties: EpochOrder) -> None:
        super().__init__([np.nan] * ties.size, first, ties)

    def note(self, thing: int, rate: float) -> None:
        """Take `rate` in [0, 1] for the newest; NaN says nothing."""
        if not isnan(rate):
            self._values_N[thing] = rate

    def state(self) -> dict[str, Any]:
        """The rates, null where unknown, and the epochs that were begun by earlier rates."""
        rates = [None if isnan(rate) else rate for rate in self._values_N.tolist()]
        return {"rates": rates, "epochs": {n: p.tolist() for n, p in self._epochs.items()}}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Know what `state` told."""
        rates = [np.nan if rate is None else rate for rate in state["rates"]]
        self._values_N = np.array(rates, dtype=np.float64)
        self._epochs = {int(n): np.array(p) for n, p in state["epochs"].items()}


class MixedOrder:
    """Several orders in fixed shares; the things of the second are numbered on from the first's.

    Each order goes through epochs of its own. Of any n positions from the start the share of each
    is off by less than one thing, and exact where n is a multiple of the weights' sum, as whole
    numbers without a common divisor.
    """

    def __init__(self, orders: Sequence[EpochOrder], weights: Sequence[float]) -> None:
        self._orders = orders
        self._offsets = [0, *accumulate(order.size for order in orders)]
        self._turns_L = turns(weights)
        """Whose turn it is at each place of a cycle."""
        marks_KL = self._turns_L == np.arange(len(orders))[:, None]
        self._before_KL = np.cumsum(marks_KL, axis=1) - marks_KL
        self._per_cycle_K = marks_KL.sum(axis=1)

    def item(self, position: int) -> int:
        """The thing at `position` >= 0."""
        cycle, place = divmod(position, len(self._turns_L))
        turn = int(self._turns_L[place])
        own = cycle * int(self._per_cycle_K[turn]) + int(self._before_KL[turn, place])
        return self._offsets[turn] + self._orders[turn].item(own)

    def note(self, thing: int, rate: float) -> None:
        """Hear how often `thing` was answered right."""
        for order, first, end in zip(self._orders, self._offsets, self._offsets[1:], strict=False):
            if first <= thing < end:
                order.note(thing - first, rate)

    def state(self) -> dict[str, Any]:
        """What the orders know beyond their seeds, as JSON."""
        return {"orders": [order.state() for order in self._orders]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Know what `state` told."""
        for order, own in zip(self._orders, state["orders"], strict=True):
            order.restore(own)


Order = EpochOrder | MixedOrder


def turns(weights: Sequence[float]) -> NDArray[np.int64]:
    """int64 [L], whose turn it is at each place of a cycle: after each, everybody had less than one
    turn more or fewer than its share (R. Tijdeman, "The chairman assignment problem", 1980)."""
    shares = [Fraction(str(weight)) for weight in weights]
    whole = [int(share * lcm(*(share.denominator for share in shares))) for share in shares]
    whole = [weight // int(np.gcd.reduce(whole)) for weight in whole]
    length, count = sum(whole), len(whole)
    if count == 1:
        return np.zeros(1, dtype=np.int64)
    slack = Fraction(1, 2 * count - 2)
    had = [0] * count
    made: list[int] = []
    for place in range(1, length + 1):
        due = [Fraction(place * whole[k], length) - had[k] for k in range(count)]
        may = [k for k in range(count) if due[k] >= slack]
        turn = min(may, key=lambda k: ((1 - slack - due[k]) / whole[k], k))
        had[turn] += 1
        made.append(turn)
    return np.array(made, dtype=np.int64)


@lru_cache(maxsize=8)
def _permutation(size: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """[size] indices. NumPy keeps raw bit streams stable between versions, but not its shuffles,
    so raw draws are sorted; a tie keeps its order."""
    draws = np.random.PCG64([seed, epoch]).random_raw(size)
    return np.argsort(draws, kind="stable")
