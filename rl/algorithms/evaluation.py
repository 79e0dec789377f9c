"""Held-out problems: avg@k at the rollout temperature, and greedy."""

from collections.abc import Sequence
from statistics import fmean

from configs.jobs.grpo import GRPORecipe
from rl.algorithms.interfaces import Rollouts
from rl.data.records import Problem, SamplingRequest
from rl.run_log.answer_metrics import accuracy, answer_metrics

_SEED = 1_000_003
"""Apart from every training step's seed, and the same at every evaluation."""


class HeldOutEvaluator:
    """An evaluator: the recipe's held-out problems, asked of the engines as they are."""

    def __init__(self, recipe: GRPORecipe, problems: Sequence[Problem], rollouts: Rollouts) -> None:
        self._recipe = recipe
        self._problems = problems
        self._rollouts = rollouts

    def __call__(self) -> dict[str, float]:
        """accuracy (avg@k), pass_at_k, greedy_accuracy, and the sampled answers' other figures.

        Verdicts that say nothing of the policy are left out of all three.
        """
        recipe = self._recipe
        k = recipe.evaluation.samples
        limit = recipe.rollout.max_new_tokens
        sampled = self._rollouts.submit(
            self._problems, SamplingRequest(k, recipe.rollout.temperature, limit, _SEED)
        )
        greedy = self._rollouts.submit(self._problems, SamplingRequest(1, 0.0, limit, _SEED))
        groups = sampled.result()
        name = recipe.reward.accuracy
        verdicts = [[score.verdicts[name] for score in g.scores] for g in groups]
        counted = [[v.score for v in said if v.counts] for said in verdicts]
        best = [max(scores) for scores in counted if scores]
        likeliest = [score for g in greedy.result() for score in g.scores]
        return {
            **answer_metrics(groups, recipe.reward),
            "pass_at_k": fmean(best) if best else float("nan"),
            "greedy_accuracy": accuracy(likeliest, recipe.reward),
        }
