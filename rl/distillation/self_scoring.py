"""Scores of questions measured from the model itself: with and without images, pass rate, length.

The paper asks GPT-4o for them (section 2.3); this needs no other model.
"""

from dataclasses import replace
from functools import partial
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.jobs.distill import DistillRecipe
from rl.algorithms.interfaces import AnswerStream
from rl.data.records import IMAGE_MARK, Problem, SamplingRequest, ScoredGroup
from rl.distillation.chain_length import Measured, QueryScores, query_scores
from rl.distillation.passes import Asked, ProblemPasses


def self_scores(
    recipe: DistillRecipe,
    passes: ProblemPasses,
    rollouts: AnswerStream,
    clarity_N: NDArray[np.float64],
) -> list[QueryScores]:
    """Each question's raw scores, measured by the policy's own answers.

    Args:
        clarity_N: of each problem's images, in [0, 1]; NaN: it has none.
    """
    total = range(len(passes.problems))
    seen = passes.run("seen", total, rollouts, partial(_ask, recipe, blind=False))
    pictured = [index for index in total if not np.isnan(clarity_N[index])]
    blind = passes.run("blind", pictured, rollouts, partial(_ask, recipe, blind=True))
    without = {index: line["accuracy"] for index, line in blind.lines()}
    found: dict[int, QueryScores] = {}
    for index, line in seen.lines():
        measured = Measured(
            line["accuracy"], without.get(index, 0.0), line["answered"], line["length"]
        )
        clear = None if np.isnan(clarity_N[index]) else float(clarity_N[index])
        found[index] = query_scores(line["question"], clear, measured)
    return [found[index] for index in total]


def without_images(problem: Problem) -> Problem:
    """The problem in words alone."""
    question = problem.question.replace(IMAGE_MARK, "").strip()
    return replace(problem, question=question, images=())


def _ask(recipe: DistillRecipe, index: int, problem: Problem, *, blind: bool) -> Asked:
    scoring, limit = recipe.scoring, recipe.rollout.max_new_tokens
    asked = without_images(problem) if blind else problem
    request = SamplingRequest(scoring.samples, scoring.temperature, limit, recipe.seed)
    return asked, request, partial(_measured, recipe, problem)


def _measured(recipe: DistillRecipe, problem: Problem, group: ScoredGroup) -> dict[str, Any]:
    name = recipe.reward.accuracy
    verdicts = [score.verdicts[name] for score in group.scores]
    right = [verdict.cause == "correct" for verdict in verdicts]
    lengths = [len(answer.token_ids) for answer in group.group.answers]
    of_right = [n for n, good in zip(lengths, right, strict=True) if good]
    return {
        "id": problem.id,
        "question": problem.question,
        "accuracy": fmean(verdict.score if verdict.counts else 0.0 for verdict in verdicts),
        "answered": fmean(verdict.cause != "no_answer" for verdict in verdicts),
        "length": fmean(of_right or lengths) / recipe.rollout.max_new_tokens,
    }
