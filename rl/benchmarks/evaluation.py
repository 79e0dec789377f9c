"""Asks a model the problems of a benchmark and sums up its answers. Knows engines by interface."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from configs.schema.reward import RewardConfig
from configs.schema.rollout import SamplingConfig
from rl.algorithms.guards import UnscoredGuard
from rl.algorithms.interfaces import AnswerStream
from rl.benchmarks.votes import vote_of
from rl.console.progress import phase
from rl.data.records import Problem, SamplingRequest, ScoredGroup
from rl.run_log.benchmark_figures import BenchmarkResult, ScoredAnswer, benchmark_result

SUBJECT = "subject"
"""Name of the field of a problem that holds its subject, or a list of them."""
_SEED_STRIDE = 100_003
"""Between seeds of a recipe, so that no run of one draws what a run of another draws."""


@dataclass(frozen=True, slots=True)
class EvaluationSettings:
    """How a benchmark is asked and scored."""

    name: str
    samples: int
    """k: independent runs, each with one answer to each problem."""
    sampling: SamplingConfig
    max_new_tokens: int
    seed: int
    reward: RewardConfig
    """Its `accuracy` is the score."""
    at_a_time: int = 256
    """Answers under way at a time; more than engines decode at once keeps them busy."""


class ChangedQuestion(ValueError):
    """An answer that was kept is one to another question than is asked now."""


def evaluate(
    rollouts: AnswerStream,
    problems: Sequence[Problem],
    config: EvaluationSettings,
    *,
    answered: Iterable[ScoredAnswer] = (),
    keep: Callable[[ScoredAnswer], object] = lambda answer: None,
) -> BenchmarkResult:
    """Ask each of `problems` `config.samples` times, and sum up.

    Args:
        problems: with their subject under `SUBJECT` of their fields, where they have one.
        answered: answers that an earlier call kept; they are not asked for again.
        keep: is called with each new answer as soon as it is scored.

    Raises:
        ChangedQuestion: one of `answered` is an answer to another question.
        TooManyUnscored: more verdicts than `config.reward.max_unscored_share` say nothing.
    """
    by_id = {problem.id: problem for problem in problems}
    known = [a for a in answered if a.problem in by_id and a.sample < config.samples]
    for answer in known:
        _check_same_question(answer, by_id[answer.problem])
    done = {(answer.problem, answer.sample): answer for answer in known}
    asked = [
        (problem, sample)
        for problem in problems
        for sample in range(config.samples)
        if (problem.id, sample) not in done
    ]
    guard = UnscoredGuard(config.reward.max_unscored_share)
    requests = ((problem, _request(config, sample)) for problem, sample in asked)
    with phase(config.name, len(done) + len(asked)) as work:
        work.advance(len(done))
        right = sum(answer.right for answer in done.values())
        for place, scored in rollouts.stream(requests, at_a_time=config.at_a_time):
            problem, sample = asked[place]
            answer = _scored_answer(problem, sample, scored, config.reward)
            keep(answer)
            done[problem.id, sample] = answer
            right += answer.right
            work.advance(note=f"{right / len(done):.1%} right")
            guard.check([scored])
    ordered = [done[p.id, sample] for p in problems for sample in range(config.samples)]
    return benchmark_result(config.name, ordered, config.seed)


def _request(config: EvaluationSettings, sample: int) -> SamplingRequest:
    return SamplingRequest.drawn(
        config.sampling,
        count=1,
        max_new_tokens=config.max_new_tokens,
        seed=config.seed * _SEED_STRIDE + sample,
    )


def _scored_answer(
    problem: Problem, sample: int, scored: ScoredGroup, reward: RewardConfig
) -> ScoredAnswer:
    (answer,), (score,) = scored.group.answers, scored.scores
    verdict = score.verdicts[reward.accuracy]
    return ScoredAnswer(
        problem=problem.id,
        sample=sample,
        subjects=_subjects(problem.fields.get(SUBJECT)),
        question=problem.question,
        gold=problem.gold,
        text=answer.text,
        finish_reason=answer.finish_reason,
        tokens=len(answer.token_ids),
        score=verdict.score if verdict.counts else None,
        cause=verdict.cause,
        detail=verdict.detail,
        vote=vote_of(problem, answer.text, reward.thinking),
    )


def _subjects(value: Any) -> tuple[str, ...]:
    if isinstance(value, list | tuple):
        return tuple(dict.fromkeys(str(each) for each in cast("Sequence[Any]", value)))
    return () if value is None else (str(value),)


def _check_same_question(answer: ScoredAnswer, problem: Problem) -> None:
    if (answer.question, answer.gold) != (problem.question, problem.gold):
        raise ChangedQuestion(
            f"the answer that was kept to problem {answer.problem!r} is one to another question or "
            f"with another right answer: {answer.question[:200]!r}, now {problem.question[:200]!r}"
        )
