"""A benchmark is asked k times, goes on where it was left, and is scored as the recipe says."""

from collections.abc import Iterable, Iterator
from itertools import islice

import pytest

from configs.schema.reward import RewardConfig
from configs.schema.rollout import SamplingConfig
from rl.algorithms.guards import TooManyUnscored
from rl.benchmarks.evaluation import ChangedQuestion, EvaluationSettings, evaluate
from rl.data.records import Answer, Group, Problem, SamplingRequest, Score, ScoredGroup, Verdict
from rl.run_log.benchmark_figures import ScoredAnswer

PROBLEMS = [
    Problem("a", "1+1?", ("2",), fields={"subject": "sums"}),
    Problem("b", "1+2?", ("3",), fields={"subject": "sums"}),
]
REWARD = RewardConfig(weights={"exact": 1.0}, accuracy="exact")


class Answering:
    """Gives 2 to every question, the last of those under way first."""

    def __init__(self, verdict: Verdict | None = None) -> None:
        self.asked: list[tuple[str, SamplingRequest]] = []
        self._verdict = verdict

    def stream(
        self, asked: Iterable[tuple[Problem, SamplingRequest]], *, at_a_time: int
    ) -> Iterator[tuple[int, ScoredGroup]]:
        waiting = iter(enumerate(asked))
        while chunk := list(islice(waiting, at_a_time)):
            for place, (problem, request) in reversed(chunk):
                self.asked.append((problem.id, request))
                yield place, self._scored(problem)

    def _scored(self, problem: Problem) -> ScoredGroup:
        right = problem.gold == ("2",)
        verdict = self._verdict or Verdict(float(right), "correct" if right else "wrong")
        answer = Answer((1, 2, 3), (-1.0,) * 3, "\\boxed{2}", "stop", 0)
        group = Group(problem, (7,), (answer,))
        return ScoredGroup(group, (Score({"exact": verdict}, verdict.score),))


def settings(samples: int = 3, seed: int = 5) -> EvaluationSettings:
    return EvaluationSettings(
        name="held out",
        samples=samples,
        sampling=SamplingConfig(temperature=0.6, top_p=0.95),
        max_new_tokens=64,
        seed=seed,
        reward=REWARD,
        at_a_time=4,
    )


def test_every_problem_is_asked_once_a_run_each_with_a_seed_of_its_own() -> None:
    rollouts = Answering()
    result = evaluate(rollouts, PROBLEMS, settings())
    assert sorted(name for name, _ in rollouts.asked) == ["a"] * 3 + ["b"] * 3
    requests = [request for _, request in rollouts.asked]
    assert {(r.count, r.temperature, r.top_p, r.max_new_tokens) for r in requests} == {
        (1, 0.6, 0.95, 64)
    }
    assert len({(name, r.seed) for name, r in rollouts.asked}) == 6
    assert result.scores == {"a": 1.0, "b": 0.0}
    assert result.figures["accuracy"] == result.figures["pass@3"] == 1 / 2
    assert result.subjects == {"sums": {"problems": 2, "accuracy": 0.5}}


def test_runs_of_neighbouring_seeds_share_no_draw() -> None:
    drawn: list[set[int]] = []
    for seed in (0, 1):
        rollouts = Answering()
        evaluate(rollouts, PROBLEMS, settings(samples=64, seed=seed))
        drawn.append({request.seed for _, request in rollouts.asked})
    assert not drawn[0] & drawn[1]


def test_what_was_answered_is_not_asked_again_and_gives_the_same_result() -> None:
    kept: list[ScoredAnswer] = []
    whole = evaluate(Answering(), PROBLEMS, settings(), keep=kept.append)
    assert {(a.problem, a.sample) for a in kept} == {(p, s) for p in "ab" for s in range(3)}
    again = Answering()
    assert evaluate(again, PROBLEMS, settings(), answered=kept[:4]) == whole
    assert sorted(name for name, _ in again.asked) == sorted(a.problem for a in kept[4:])
    nothing = Answering()
    assert evaluate(nothing, PROBLEMS, settings(), answered=kept) == whole
    assert not nothing.asked


def test_more_runs_go_on_from_fewer_and_fewer_from_more() -> None:
    kept: list[ScoredAnswer] = []
    evaluate(Answering(), PROBLEMS, settings(samples=2), keep=kept.append)
    more = Answering()
    evaluate(more, PROBLEMS, settings(samples=5), answered=kept)
    assert len(more.asked) == 6
    fewer = Answering()
    result = evaluate(fewer, PROBLEMS[:1], settings(samples=1), answered=kept)
    assert not fewer.asked and result.figures["samples"] == result.figures["problems"] == 1


def test_a_kept_answer_to_another_question_is_refused() -> None:
    kept: list[ScoredAnswer] = []
    evaluate(Answering(), PROBLEMS, settings(), keep=kept.append)
    changed = [Problem("a", "1+1, in words?", ("2",))]
    with pytest.raises(ChangedQuestion, match=r"'1\+1\?', now '1\+1, in words\?'"):
        evaluate(Answering(), changed, settings(), answered=kept)


def test_a_benchmark_that_cannot_be_scored_stops() -> None:
    crashed = Verdict(0.0, "crash", "the judge is out of reach")
    unscored = Answering(crashed)
    unscored._scored = lambda problem: ScoredGroup(  # pyright: ignore
        Group(problem, (7,), (Answer((1,), (-1.0,), "x", "stop", 0),)),
        (Score({"exact": crashed}, None),),
    )
    with pytest.raises(TooManyUnscored, match="out of reach"):
        evaluate(unscored, PROBLEMS, settings(samples=150))
