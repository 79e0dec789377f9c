"""What the loop needs of its parts. Actors provide them on a cluster, plain objects in tests."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Protocol, TypeVar

from rl.algorithms.best_policy import BestPolicy
from rl.algorithms.rows import TrainingRow
from rl.algorithms.sample_buffer import SampleBuffer
from rl.data.records import Problem, SamplingRequest, ScoredGroup, UpdateReport
from rl.run_log.samples import Logged, TokenTexts
from rl.run_log.timing import Span

T_co = TypeVar("T_co", covariant=True)


class Pending(Protocol[T_co]):
    """A result that may still be under way."""

    def result(self) -> T_co:
        """Wait for it; raises what the work raised."""
        ...

    @property
    def seconds(self) -> float:
        """The share of the engines' time that it took, once its result has been taken."""
        ...


class Problems(Protocol):
    """Problems in their order."""

    def take(self, count: int) -> list[Problem]:
        """The next `count` problems."""
        ...

    def done(self, asked: Iterable[tuple[Problem, float]]) -> None:
        """Count problems as used; with each the share of right answers, NaN where unknown."""
        ...


class Rollouts(Protocol):
    """Engines that answer, and the rewards that score."""

    def submit(
        self, problems: Sequence[Problem], request: SamplingRequest
    ) -> Pending[list[ScoredGroup]]:
        """Groups of scored answers, in the problems' order; returns at once."""
        ...

    def begin(
        self, problems: Sequence[Problem], request: SamplingRequest
    ) -> "Sequence[Future[tuple[ScoredGroup, float]]]":
        """Each problem's group by itself, with its share of the engines' seconds; returns at once.
        One that is cancelled is written no further."""
        ...


class AnswerStream(Protocol):
    """Engines that answer, and the rewards that score, for more problems than memory holds."""

    def stream(
        self, asked: Iterable[tuple[Problem, SamplingRequest]], *, at_a_time: int
    ) -> Iterator[tuple[int, ScoredGroup]]:
        """Each request's place in `asked` with its scored answers, as they come."""
        ...


class Weights(Protocol):
    """The way of the learner's weights to the engines."""

    def make_room(self) -> None:
        """Let engines leave what the learner needs of the GPUs that they share, until `sync`."""
        ...

    def sync(self, version: int) -> None:
        """Bring them to every engine as `version`, and make sure that they arrived."""
        ...


class Learner(Protocol):
    """Whoever holds the policy's weights and improves them."""

    def update(self, rows: Sequence[TrainingRow]) -> UpdateReport:
        """One step of the optimiser over `rows`."""
        ...


class StepLog(Protocol):
    """What keeps a run's figures and samples."""

    def write_step(
        self, step: int, metrics: Mapping[str, float], learned: Sequence[Logged]
    ) -> None:
        """Figures of a step, and samples of what it learned from."""
        ...

    def write_evaluation(self, step: int, figures: Mapping[str, float]) -> None:
        """Figures on held-out problems of the policy behind `step` updates."""
        ...


class Evaluator(Protocol):
    """Held-out problems."""

    def __call__(self) -> Mapping[str, float]:
        """Figures of the policy that the engines hold now."""
        ...


@dataclass(frozen=True, slots=True)
class GRPOParts:
    """Everything that the loop works with."""

    problems: Problems
    rollouts: Rollouts
    learner: Learner
    weights: Weights
    evaluate: Evaluator | None
    """None: the recipe has no held-out problems."""
    log: StepLog
    save: Callable[[int], None]
    """Writes a checkpoint of the policy behind so many steps."""
    best: BestPolicy
    """What was the best so far."""
    token_texts: TokenTexts
    """Reads an answer's tokens for the log."""
    buffer: SampleBuffer | None = None
    """Informative answers of earlier steps; None: each step learns from its own alone."""
    span: Span = nullcontext
    """Draws the phases of steps on a timeline."""
