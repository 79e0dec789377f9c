"""Which problem comes when: a pure function of seed and position, so that resuming is exact."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


class ShuffledOrder:
    """An endless order over `size` things: each epoch is a new permutation of all of them."""

    def __init__(self, size: int, seed: int) -> None:
        if size < 1:
            raise ValueError(f"there are {size} things to put in order; give at least one")
        self.size = size
        self.seed = seed

    def item(self, position: int) -> int:
        """The thing at `position` >= 0, counted from the start of the first epoch."""
        epoch, index = divmod(position, self.size)
        return int(_permutation(self.size, self.seed, epoch)[index])

    def items(self, start: int, count: int) -> list[int]:
        """The things at `count` positions from `start` on; windows that touch share nothing."""
        return [self.item(position) for position in range(start, start + count)]


@lru_cache(maxsize=8)
def _permutation(size: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """[size] indices. NumPy keeps raw bit streams stable between versions, but not its shuffles,
    so raw draws are sorted; a tie keeps its order."""
    draws = np.random.PCG64([seed, epoch]).random_raw(size)
    return np.argsort(draws, kind="stable")
