"""How chains are asked for, from the policy and from the teacher, and which answers are chains."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.jobs.distill import DistillRecipe, TeacherConfig
from configs.schema.reward import RewardConfig
from rl.data.records import Answer, Problem, SamplingRequest, Score, ScoredGroup
from rl.distillation.chain_length import QueryScores
from rl.distillation.passes import Ask, Asked
from rl.distillation.rewriting import ATTEMPT
from rl.distillation.self_scoring import without_images
from rl.storage.journal import Journal


def own_request(
    recipe: DistillRecipe, scores: Sequence[QueryScores], penalties_N: NDArray[np.float64]
) -> Ask:
    """The policy's chain, each problem's under its own repetition penalty P."""

    def ask(index: int, problem: Problem) -> Asked:
        penalty = float(penalties_N[index])
        request = SamplingRequest(
            recipe.samples,
            recipe.rollout.temperature,
            recipe.rollout.max_new_tokens,
            recipe.seed + 1,
            top_p=recipe.top_p,
            repetition_penalty=penalty,
        )

        def note(group: ScoredGroup) -> dict[str, Any]:
            measured = {"penalty": penalty, "scores": asdict(scores[index])}
            return {**measured, **shortest_right(recipe.reward, group)}

        return problem, request, note

    return ask


def mended_request(
    recipe: DistillRecipe, teacher: TeacherConfig, attempt: Callable[[int], str]
) -> Ask:
    """The teacher's chain, who is told the right answer, and where a server rewrites the attempt.

    `attempt`: the policy's wrong chain of a problem by its number.
    """

    def ask(index: int, problem: Problem) -> Asked:
        words = {"question": problem.question, "answer": problem.gold[0], **problem.fields}
        told = {name: _in_words(value) for name, value in words.items()}
        asked = replace(problem, question=teacher.question.format(**told))
        if teacher.server is not None:
            asked = replace(asked, fields={**asked.fields, ATTEMPT: attempt(index)})
        request = SamplingRequest(
            teacher.samples,
            recipe.rollout.temperature,
            recipe.rollout.max_new_tokens,
            recipe.seed + 2,
        )
        shown = asked if teacher.images else without_images(asked)
        return shown, request, partial(shortest_right, recipe.reward)

    return ask


def attempts(chains: Journal, rows_per_shard: int) -> Callable[[int], str]:
    """What the policy wrote where it got a problem wrong, by the problem's number.

    Rows that share a file are read together, as they are asked for together.
    """
    read = lru_cache(maxsize=2)(chains.read)

    def attempt(index: int) -> str:
        return read(index // rows_per_shard)[index]["said"]

    return attempt


def shortest_right(reward: RewardConfig, group: ScoredGroup) -> dict[str, Any]:
    """The shortest right chain of a group, or why there is none.

    Returns:
        `text` and `tokens`; or `reason`, `detail` and `said` of the first answer.
    """
    pairs = list(zip(group.group.answers, group.scores, strict=True))
    right = [answer for answer, score in pairs if _is_right(answer, score, reward)]
    if right:
        best = min(right, key=lambda answer: len(answer.token_ids))
        return {"text": best.text, "tokens": len(best.token_ids)}
    answer, score = pairs[0]
    verdict = score.verdicts[reward.accuracy]
    cut = "cut off; " if answer.finish_reason == "length" else ""
    detail = f"{cut}{verdict.detail}" if answer.text else "nothing was written"
    return {"reason": verdict.cause, "detail": detail, "said": answer.text}


def opened(text: str, reward: RewardConfig) -> str:
    """The chain as an assistant's turn: with the open tag that the prompt had."""
    thinking = reward.thinking
    thoughts, closed, _ = text.partition(thinking.close_tag)
    return f"{thinking.open_tag}{text}" if closed and thinking.open_tag not in thoughts else text


def _is_right(answer: Answer, score: Score, reward: RewardConfig) -> bool:
    """Right, ended by itself, and in the template where the recipe rewards that."""
    kept = "format" not in reward.counting or score.verdicts["format"].score == 1.0
    right = score.verdicts[reward.accuracy].cause == "correct"
    return right and kept and answer.finish_reason == "stop"


def _in_words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
