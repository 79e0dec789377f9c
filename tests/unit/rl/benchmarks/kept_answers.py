"""Answers of an evaluation, as a run keeps them."""

from pathlib import Path

from rl.benchmarks.answers import answers_file, answers_writer
from rl.run_log.benchmark_figures import ScoredAnswer


def kept(problem: str, score: float | None, sample: int = 0, question: str = "?") -> ScoredAnswer:
    """An answer with this score; None: its verifier failed."""
    cause = "crash" if score is None else "correct" if score == 1 else "wrong"
    return ScoredAnswer(
        problem=problem,
        sample=sample,
        subjects=(),
        question=question,
        gold=("1",),
        text="\\boxed{1}",
        finish_reason="stop",
        tokens=4,
        score=score,
        cause=cause,
        detail="",
        vote="1",
    )


def run_of(folder: Path, benchmark: str, answers: list[ScoredAnswer]) -> Path:
    """A run folder that holds these answers."""
    with answers_writer(answers_file(folder, benchmark)) as writer:
        for answer in answers:
            writer.write(answer.line())
    return folder
