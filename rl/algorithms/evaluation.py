"""Held-out problems: avg@k as the recipe samples, and greedy."""

from collections.abc import Sequence
from dataclasses import replace
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
        request = SamplingRequest.drawn(
            recipe.evaluation.sampling or recipe.rollout,
            count=recipe.evaluation.samples,
            max_new_tokens=recipe.rollout.max_new_tokens,
            seed=_SEED,
        )
        sampled = self._rollouts.submit(self._problems, request)
        greedy = self._rollouts.submit(self._problems, replace(request, count=1, temperature=0.0))
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
