"""The loop of a supervised run, told in one function; every rank runs it at the same time.

Step s takes the next `batch` chats of the cursor. The loss is one sum over the trained tokens of
all ranks divided by their number, so that neither packs nor ranks change the gradient. Nothing is
remembered but what a checkpoint and the run's own log hold, so a run that goes on from a checkpoint
does what one that never stopped would have done.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from configs.jobs.sft import AlignRecipe, SFTRecipe
from configs.schema.run import Device
from rl.algorithms.early_stopping import EarlyStopping
from rl.algorithms.guards import NonFiniteGuard
from rl.data.chats import ChatIndex
from rl.data.order import ShuffledOrder
from rl.data.records import UpdateReport
from rl.run_log.samples import Logged


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one step did."""

    report: UpdateReport
    rows: Sequence[int]
    """Rows of the data that were learned from, in the order of the cursor."""
    samples: Sequence[Logged]
    """Chats of this rank with their losses."""


class Learner(Protocol):
    """One rank of those that hold the policy and improve it together."""

    def update(self, step: int) -> StepResult:
        """Learn from the chats of `step`."""
        ...

    def held_out(self) -> Mapping[str, float]:
        """`loss` on the held-out rows and what else is told of them, the same on every rank."""
        ...

    def save(self, step: int) -> None:
        """Write a checkpoint of the policy behind so many steps."""
        ...

    def export_best(self) -> None:
        """Export the policy as the best so far."""
        ...


class Log(Protocol):
    """What the first rank writes, and the others do not."""

    def write_step(self, step: int, learned: StepResult) -> None: ...
    def write_evaluation(self, step: int, figures: Mapping[str, float]) -> None: ...


@dataclass(frozen=True, slots=True)
class SFTParts:
    """Everything that the loop works with."""

    learner: Learner
    log: Log
    losses: Sequence[tuple[int, float]]
    """(step, held-out loss) of the evaluations before this start."""


def finished(recipe: SFTRecipe) -> bool:
    """Whether nothing is left to do: the summary is a run's last word."""
    return (recipe.run_folder / "summary.json").is_file()


@dataclass(frozen=True, slots=True)
class SFTJob:
    """What every rank is told of one run."""

    recipe: SFTRecipe
    """Its folders absolute."""
    chats: ChatIndex
    held_out: ChatIndex | None
    device: Device
    before: Callable[[], object] | None = None
    """What the first rank does before the run's policy is read."""
    part_of: AlignRecipe | None = None
    """The alignment that the run is a pass of."""

    @property
    def steps(self) -> int:
        """Updates of the run."""
        return self.recipe.steps or math.ceil(self._total / self.recipe.batch_size)

    def window(self, cursor: ShuffledOrder, step: int) -> list[int]:
        """Places of the chats of `step`; the last step of the epochs takes what is left."""
        start = step * self.recipe.batch_size
        return cursor.items(start, min(self.recipe.batch_size, self._total - start))

    @property
    def _total(self) -> int:
        """Chats of all steps, each epoch's anew."""
        if self.recipe.steps is not None:
            return self.recipe.steps * self.recipe.batch_size
        return max(1, round(self.recipe.epochs * len(self.chats.numbers)))


def train(recipe: SFTRecipe, parts: SFTParts, first: int, stop: int) -> int:
    """Run the steps from `first` up to `stop`, or until held-out loss stays; the steps behind it.

    Raises:
        DivergedError: too many updates in a row met a loss or gradient that is not finite.
    """
    guard = NonFiniteGuard(recipe.learner.max_skipped_in_a_row)
    lowest = EarlyStopping(parts.losses)
    evaluation = recipe.evaluation

    def evaluate(step: int) -> None:
        found = parts.learner.held_out()
        if lowest.update(step, found["loss"]) and evaluation.result == "best":
            parts.learner.export_best()
        best = {"best_loss": lowest.loss, "best_step": float(lowest.step)}
        parts.log.write_evaluation(step, {**found, **best})

    if lowest.should_stop(evaluation.patience):
        return first
    if evaluation.data and first == 0:
        evaluate(0)
    for step in range(first, stop):
        learned = parts.learner.update(step)
        guard.check(learned.report, step)
        parts.log.write_step(step, learned)

        done = step + 1
        last = done == stop
        if evaluation.data and (last or done % evaluation.every == 0):
            evaluate(done)
            last = last or lowest.should_stop(evaluation.patience)
        if last or done % recipe.checkpoint.every == 0:
            parts.learner.save(done)
        if last:
            return done
    return first


def perplexity(loss: float) -> float:
    """exp of nats a token; infinite where that is no float."""
    return math.exp(loss) if loss < 700 else math.inf
