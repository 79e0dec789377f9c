"""What an update learns from, and what each token of it counts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from configs.jobs.grpo import GRPORecipe
from configs.schema.loss import Aggregation
from rl.algorithms.rows import TrainingRow
from rl.objectives.aggregation import token_weights


@dataclass(frozen=True, slots=True)
class UpdatePlan:
    """How a step's rows become updates of the policy."""

    aggregation: Aggregation
    longest: int
    """Most tokens of an answer."""

    @classmethod
    def of(cls, recipe: GRPORecipe) -> Self:
        """The recipe's."""
        return cls(recipe.loss.aggregation, recipe.rollout.max_new_tokens)

    def weighted(self, rows: Sequence[TrainingRow]) -> list[TrainingRow]:
        """The rows of one update, each of them a group, with what their answers' tokens count."""
        lengths = [[len(answer.token_ids) for answer in row.answers] for row in rows]
        weights = token_weights(lengths, self.aggregation, self.longest)
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
