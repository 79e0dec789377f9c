"""Which policy of a run is the best so far, by the recipe's measure."""

import math
from collections.abc import Mapping
from statistics import fmean

from rl.storage.checkpoints import Best, Measure


class BestPolicy:
    """Remembers the highest value and the step that it was found behind."""

    def __init__(
        self,
        measure: Measure | None,
        before: Best | None = None,
    ) -> None:
        """`before`: the best before an interruption; by another measure it counts for nothing."""
        self.best = before if before and before.measure == measure else None
        """None: there was nothing to compare."""
        self._measure: Measure | None = measure
        self._entropies: list[float] = []

    def see_step(self, metrics: Mapping[str, float]) -> None:
        """Note a step's own metrics; one without critical tokens has none to note."""
        if "critical_entropy" in metrics:
            self._entropies.append(metrics["critical_entropy"])

    def see_evaluation(self, step: int, figures: Mapping[str, float]) -> bool:
        """Whether the policy behind `step` updates is the best by held-out accuracy."""
        if self._measure != "accuracy":
            return False
        return self._note(Best(step, self._measure, figures["accuracy"]))

    def see_checkpoint(self, step: int) -> bool:
        """Whether it is the best by the steps since the checkpoint before; they are forgotten."""
        entropies, self._entropies = self._entropies, []
        if self._measure != "critical_entropy" or not entropies:
            return False
        return self._note(Best(step, self._measure, fmean(entropies)))

    def _note(self, found: Best) -> bool:
        better = found.value > (self.best.value if self.best else -math.inf)
        if better:
            self.best = found
        return better
