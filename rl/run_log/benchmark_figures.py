"""Figures of a benchmark from its scored answers: avg@k, pass@k, cons@k, by subject, by cause."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
from statistics import fmean
from typing import Any, Self

from rl.data.records import CAUSES, Cause, FinishReason
from rl.run_log.significance import CONFIDENCE, bootstrap_interval
from rl.storage.jsonl import json_number


@dataclass(frozen=True, slots=True)
class ScoredAnswer:
    """One answer to one problem of a benchmark: a line of its answers file."""

    problem: str
    """The problem's id."""
    sample: int
    """Number of the run that it belongs to: 0, 1, ..."""
    subjects: tuple[str, ...]
    """What the problem counts towards beside the whole; empty where the data names nothing."""
    question: str
    gold: tuple[str, ...]
    text: str
    finish_reason: FinishReason
    tokens: int
    score: float | None
    """Of the reward that the recipe calls accuracy; None: the verdict says nothing of the model."""
    cause: Cause
    detail: str
    vote: str | None
    """Normal form of the final answer; None without one."""

    @property
    def right(self) -> bool:
        """Whether it has the full score."""
        return self.score is not None and self.score >= 1.0

    def line(self) -> dict[str, Any]:
        """Itself as an object of JSON."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return fields | {
            "subjects": list(self.subjects),
            "gold": list(self.gold),
            "score": json_number(self.score),
        }

    @classmethod
    def from_line(cls, line: Mapping[str, Any]) -> Self:
        """The answer in a line of the answers file. KeyError where it lacks something."""
        fields: dict[str, Any] = {name: line[name] for name in cls.__slots__}
        for name in ("subjects", "gold"):
            fields[name] = tuple(fields[name])
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """What came out of a benchmark."""

    name: str
    figures: Mapping[str, float]
    """See `benchmark_figures`."""
    subjects: Mapping[str, Mapping[str, float]]
    """problems and accuracy by subject; empty where the data names none."""
    scores: Mapping[str, float]
    """Mean score of each problem's answers, by its id; problems without one that counts left out.
    """


def benchmark_result(name: str, answers: Sequence[ScoredAnswer], seed: int) -> BenchmarkResult:
    """All figures of a benchmark; `seed` draws the bootstrap's resamples."""
    by_problem: defaultdict[str, list[ScoredAnswer]] = defaultdict(list)
    for answer in answers:
        by_problem[answer.problem].append(answer)
    counted = {
        problem: kept
        for problem, said in by_problem.items()
        if (kept := [answer for answer in said if answer.score is not None])
    }
    scores = {problem: _mean_score(said) for problem, said in counted.items()}
    subjects: defaultdict[str, list[float]] = defaultdict(list)
    for problem, score in scores.items():
        for subject in counted[problem][0].subjects:
            subjects[subject].append(score)
    return BenchmarkResult(
        name,
        {"problems": float(len(by_problem)), **benchmark_figures(answers, counted, scores, seed)},
        {
            subject: {"problems": float(len(all_of)), "accuracy": fmean(all_of)}
            for subject, all_of in sorted(subjects.items())
        },
        scores,
    )


def benchmark_figures(
    answers: Sequence[ScoredAnswer],
    counted: Mapping[str, Sequence[ScoredAnswer]],
    scores: Mapping[str, float],
    seed: int,
) -> dict[str, float]:
    """Figures over all problems.

    accuracy (avg@k: mean over problems of the mean score of their k answers), with low and high of
    its interval; pass@1, 2, 4 ... k; cons@k; run_low and run_high (lowest and highest score of a
    single run); mean_length (tokens); truncated_share, unscored_share, and verdicts/CAUSE shares of
    all answers. Answers whose verdict does not count are left out of the scores.
    """
    samples = 1 + max((answer.sample for answer in answers), default=0)
    figures: dict[str, float] = {"samples": float(samples)}
    if scores:
        low, high = bootstrap_interval(list(scores.values()), seed=seed)
        figures |= {"accuracy": fmean(scores.values()), "low": low, "high": high}
        figures |= {"confidence": CONFIDENCE}
        for k in _powers_of_two(samples):
            passed = [
                pass_at_k(len(said), sum(a.right for a in said), k)
                for said in counted.values()
                if len(said) >= k
            ]
            if passed:
                figures[f"pass@{k}"] = fmean(passed)
        figures[f"cons@{samples}"] = fmean(map(consensus, counted.values()))
        runs: defaultdict[int, list[float]] = defaultdict(list)
        for answer in (answer for said in counted.values() for answer in said):
            runs[answer.sample].append(answer.score or 0.0)
        each = [fmean(run) for run in runs.values()]
        figures |= {"run_low": min(each), "run_high": max(each)}
    if answers:
        causes = Counter(answer.cause for answer in answers)
        figures |= {
            "mean_length": fmean(answer.tokens for answer in answers),
            "truncated_share": fmean(answer.finish_reason == "length" for answer in answers),
            "unscored_share": fmean(answer.score is None for answer in answers),
            **{f"verdicts/{cause}": causes[cause] / len(answers) for cause in CAUSES},
        }
    return figures


def pass_at_k(answers: int, right: int, k: int) -> float:
    """Chance that at least one of k answers is right, estimated from `answers` >= k of them.

    1 - C(n - c, k) / C(n, k), without bias (Codex, arXiv:2107.03374, section 2.1).

    Raises:
        ValueError: k is not between 1 and `answers`.
    """
    if not 1 <= k <= answers:
        raise ValueError(f"pass@{k} cannot be told from {answers} answers")
    return 1.0 - comb(answers - right, k) / comb(answers, k)


def consensus(answers: Sequence[ScoredAnswer]) -> float:
    """Score of the answer that most agree on; the mean over those that tie; 0 without a vote.

    Answers agree when their normal forms are equal; those without a final answer do not vote.
    (Self-consistency, arXiv:2203.11171.)
    """
    votes: defaultdict[str, list[ScoredAnswer]] = defaultdict(list)
    for answer in answers:
        if answer.vote is not None:
            votes[answer.vote].append(answer)
    most = max(map(len, votes.values()), default=0)
    return fmean(_mean_score(said) for said in votes.values() if len(said) == most) if most else 0.0


def _mean_score(answers: Sequence[ScoredAnswer]) -> float:
    """Mean score of answers that all count."""
    return fmean(answer.score or 0.0 for answer in answers)


def _powers_of_two(most: int) -> list[int]:
    """1, 2, 4 ... below `most`, and `most` itself."""
    return [2**n for n in range(most.bit_length()) if 2**n < most] + [most]
