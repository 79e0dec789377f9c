"""The lowest held-out loss so far, and how long ago it was."""

import math
from collections.abc import Iterable


class EarlyStopping:
    """Remembers evaluations in their order."""

    def __init__(self, before: Iterable[tuple[int, float]]) -> None:
        """`before`: (step, loss) of evaluations from before an interruption, in order."""
        self.step = 0
        """Steps behind the policy of the lowest loss."""
        self.loss = math.inf
        self._since = 0
        for step, loss in before:
            self.update(step, loss)

    def update(self, step: int, loss: float) -> bool:
        """Note one more evaluation; True when no earlier one was as low. NaN never is."""
        better = loss < self.loss
        if better:
            self.step, self.loss = step, loss
        self._since = 0 if better else self._since + 1
        return better

    def should_stop(self, patience: int | None) -> bool:
        """Whether the last `patience` evaluations brought nothing new; None: never."""
        return patience is not None and self._since >= patience
