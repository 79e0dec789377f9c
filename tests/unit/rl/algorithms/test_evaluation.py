"""Held-out problems: avg@k, pass@k and greedy, by hand."""

import math
from collections.abc import Sequence

import pytest

from configs.schema.rollout import SamplingConfig
from rl.algorithms.evaluation import HeldOutEvaluator
from rl.data.records import Problem, SamplingRequest, ScoredGroup
from tests.unit.step_samples import Ready, recipe, scored

PROBLEMS = (Problem("a", "1+1?", ("2",)), Problem("b", "1+2?", ("3",)))


class Told:
    """Rollouts that give the groups they were told to, greedy ones where one answer is asked."""

    def __init__(self, sampled: list[ScoredGroup], greedy: list[ScoredGroup]) -> None:
        self._groups = {True: sampled, False: greedy}
        self.asked: list[tuple[Sequence[Problem], SamplingRequest]] = []

    def submit(
        self, problems: Sequence[Problem], request: SamplingRequest
    ) -> Ready[list[ScoredGroup]]:
        self.asked.append((problems, request))
        return Ready(self._groups[request.count > 1])


RECIPE = recipe(
    rollout={"temperature": 0.7, "max_new_tokens": 99},
    evaluation={"samples": 4, "data": {"source": "held_out.parquet"}},
)


def test_each_problem_is_asked_k_times_as_in_rollouts_and_once_greedily() -> None:
    rollouts = Told([scored([1.0, 0.0, 0.0, 0.0]), scored([0.0] * 4)], [scored([1.0])] * 2)
    figures = HeldOutEvaluator(RECIPE, PROBLEMS, rollouts)()
    (problems, sampled), (again, greedy) = rollouts.asked
    assert problems is again is PROBLEMS
    assert (sampled.count, sampled.temperature, sampled.max_new_tokens) == (4, 0.7, 99)
    assert (greedy.count, greedy.temperature, greedy.max_new_tokens) == (1, 0.0, 99)
    assert figures["accuracy"] == 1 / 8
    assert figures["pass_at_k"] == 1 / 2
    assert figures["greedy_accuracy"] == 1.0
    assert figures["mean_length"] == 2.5


def test_held_out_answers_can_be_drawn_otherwise_than_rollouts() -> None:
    own = {"temperature": 0.6, "top_p": 0.95, "repetition_penalty": 1.05, "stop": ["END"]}
    evaluation = RECIPE.evaluation.model_copy(update={"sampling": SamplingConfig(**own)})
    rollouts = Told([scored([1.0] * 4)], [scored([1.0])])
    changed = RECIPE.model_copy(update={"evaluation": evaluation})
    HeldOutEvaluator(changed, PROBLEMS[:1], rollouts)()
    for (_, request), temperature in zip(rollouts.asked, (0.6, 0.0), strict=True):
        assert request.temperature == temperature
        assert (request.top_p, request.repetition_penalty, request.stop) == (0.95, 1.05, ("END",))


def test_every_evaluation_draws_with_the_same_seed() -> None:
    rollouts = Told([scored([1.0] * 4)], [scored([1.0])])
    evaluate = HeldOutEvaluator(RECIPE, PROBLEMS[:1], rollouts)
    assert evaluate() == evaluate()
    assert len({request.seed for _, request in rollouts.asked}) == 1
    assert rollouts.asked[0][1].seed >= RECIPE.steps


def test_verdicts_that_say_nothing_of_the_policy_count_nowhere() -> None:
    sampled = [scored([None, 1.0, 0.0, None]), scored([None] * 4), scored([0.0] * 4)]
    rollouts = Told(sampled, [scored([1.0]), scored([None]), scored([0.0])])
    figures = HeldOutEvaluator(RECIPE, PROBLEMS, rollouts)()
    assert figures["accuracy"] == pytest.approx(1 / 6)
    assert figures["pass_at_k"] == 1 / 2
    assert figures["greedy_accuracy"] == 1 / 2
    assert figures["unscored_share"] == 1 / 2


def test_where_nothing_could_be_scored_the_shares_are_nan() -> None:
    figures = HeldOutEvaluator(RECIPE, PROBLEMS, Told([scored([None] * 4)], [scored([None])]))()
    for name in ("accuracy", "pass_at_k", "greedy_accuracy"):
        assert math.isnan(figures[name])
