"""From a step's rows to the updates that learn from them, and back from their reports to one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Self

from configs.jobs.grpo import GRPORecipe
from configs.schema.loss import Aggregation
from rl.algorithms.rows import TrainingRow
from rl.data.records import UpdateReport
from rl.objectives.aggregation import token_weights

_BEFORE = ("logprob_gap", "logprob_gap_max", "sampler_kl")
"""What sampler and learner differ in before the policy moves; of the first update alone."""


@dataclass(frozen=True, slots=True)
class UpdatePlan:
    """How a step's rows become updates of the policy."""

    aggregation: Aggregation
    longest: int
    """Most tokens of an answer."""
    asked: int
    """Answers that a step asks for, those that will teach nothing too."""
    minibatches: int = 1
    epochs: int = 1
    keeps_old: bool = False
    """The loss asks for the learner's logprobs before the step's first update."""

    @classmethod
    def of(cls, recipe: GRPORecipe) -> Self:
        """The recipe's."""
        learner, loss = recipe.learner, recipe.loss
        return cls(
            aggregation=loss.aggregation,
            longest=recipe.rollout.max_new_tokens,
            asked=recipe.problems_per_step * recipe.rollout.group_size,
            minibatches=learner.minibatches,
            epochs=learner.epochs,
            keeps_old=loss.ratio_to_learner,
        )

    def split(self, rows: Sequence[TrainingRow]) -> list[list[TrainingRow]]:
        """The rows of each update of an epoch: whole groups, dealt out in turn, so that replayed
        ones, which come last, are in all of them. Each answer knows what its tokens count in its
        update."""
        count = min(self.minibatches, len(rows))
        return [self._weighted(rows[number::count]) for number in range(count)]

    def met_late(self, batches: Sequence[Sequence[TrainingRow]]) -> list[TrainingRow]:
        """Rows that an update meets when the policy has moved already, and whose old logprobs have
        to be read before; none where the first update is the only one."""
        if not self.keeps_old or len(batches) * self.epochs == 1:
            return []
        late = batches if self.epochs > 1 else batches[1:]
        return [row for batch in late for row in batch]

    def _weighted(self, rows: Sequence[TrainingRow]) -> list[TrainingRow]:
        lengths = [[len(answer.token_ids) for answer in row.answers] for row in rows]
        # Flat groups are no rows; they count in the updates that would have had them.
        constant = self.asked * self.longest / self.minibatches
        weights = token_weights(lengths, self.aggregation, constant)
        return [
            replace(
                row,
                answers=tuple(
                    replace(answer, weight=weight)
                    for answer, weight in zip(row.answers, own, strict=True)
                ),
            )
            for row, own in zip(rows, weights, strict=True)
        ]


def with_old_logprobs(
    rows: Sequence[TrainingRow], known: Mapping[int, tuple[float, ...]]
) -> list[TrainingRow]:
    """The rows with what is known of their answers' tokens by the answers' indices; None else."""
    return [
        replace(
            row, answers=tuple(replace(a, old_logprobs=known.get(a.index)) for a in row.answers)
        )
        for row in rows
    ]


def one_report(reports: Sequence[UpdateReport]) -> UpdateReport:
    """What the updates of a step did together: means of their metrics, the number of those skipped,
    the last learning rate, and of what lies before the policy moves the first update's; of each
    answer what was said first."""
    told: dict[str, list[float]] = {}
    for report in reports:
        for name, value in report.metrics.items():
            told.setdefault(name, []).append(value)
    metrics = {name: fmean(values) for name, values in told.items()}
    metrics |= {name: told[name][0] for name in _BEFORE if name in told}
    metrics |= {"lr": told["lr"][-1], "skipped": sum(told["skipped"])}
    answers = {i: said for report in reversed(reports) for i, said in report.answers.items()}
    skips = tuple(skipped for report in reports for skipped in report.skips)
    return UpdateReport(metrics, answers, skips)
