"""Answers that teach something are kept, and drawn where a step's own do not."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from configs.schema.buffer import SampleBufferConfig
from rl.algorithms.rows import TrainingAnswer, TrainingRow
from rl.algorithms.sample_buffer import SampleBuffer
from rl.data.records import Problem


def row(problem: str, advantages: Sequence[float], first: int = 0) -> TrainingRow:
    answers = [
        TrainingAnswer(first + i, (i, i + 1), advantage, (-0.5, -0.25), (-0.75, -1.0))
        for i, advantage in enumerate(advantages)
    ]
    return TrainingRow(Problem(problem, "?", ("1",)), (7, 8), tuple(answers))


def buffer(**config: float) -> SampleBuffer:
    return SampleBuffer(SampleBufferConfig.model_validate(config), seed=3)


def learned(rows: Sequence[TrainingRow]) -> list[tuple[str, float, int]]:
    return [(r.problem.id, a.advantage, a.index) for r in rows for a in r.answers]


def test_the_places_of_answers_that_teach_nothing_are_taken_by_earlier_ones() -> None:
    made = buffer()
    assert made.mix(0, [row("a", (1.0, -1.0))], asked=4) == [row("a", (1.0, -1.0))]
    mixed = made.mix(1, [row("b", (0.5, -0.5))], asked=4)
    assert learned(mixed) == [("b", 0.5, 0), ("b", -0.5, 1), ("a", 1.0, 4), ("a", -1.0, 5)]
    assert mixed[1].answers[0].sampler_logprobs == (-0.5, -0.25)


def test_a_step_that_teaches_by_every_answer_draws_none() -> None:
    made = buffer()
    made.mix(0, [row("a", (1.0, -1.0))], asked=2)
    assert learned(made.mix(1, [row("b", (0.5, -0.5))], asked=2)) == [("b", 0.5, 0), ("b", -0.5, 1)]


def test_half_the_places_are_filled_where_the_recipe_says_half() -> None:
    made = buffer(fill=0.5)
    made.mix(0, [row("a", (1.0, -1.0, 2.0, -2.0))], asked=4)
    assert len(learned(made.mix(1, [], asked=4))) == 2


def test_answers_are_drawn_in_proportion_to_the_size_of_their_advantage() -> None:
    def share_of_large(exponent: float) -> float:
        made = buffer(exponent=exponent, max_age=10_000)
        made.mix(0, [row("a", (3.0,)), row("b", (-1.0,))], asked=2)
        drawn = Counter(made.mix(step, [], asked=1)[0].problem.id for step in range(1, 2001))
        return drawn["a"] / 2000

    assert share_of_large(1.0) == pytest.approx(3 / 4, abs=0.04)
    assert share_of_large(2.0) == pytest.approx(9 / 10, abs=0.04)
    assert share_of_large(0.0) == pytest.approx(1 / 2, abs=0.04)


def test_none_is_drawn_twice_in_a_step_and_none_outlives_its_age_or_the_buffer_s_size() -> None:
    made = buffer(size=3, max_age=2)
    made.mix(0, [row("a", (1.0, -1.0))], asked=2)
    made.mix(1, [row("b", (2.0, -2.0))], asked=2)
    assert Counter(problem for problem, *_ in learned(made.mix(2, [], asked=8))) == {"a": 1, "b": 2}
    assert Counter(problem for problem, *_ in learned(made.mix(3, [], asked=8))) == {"b": 2}
    assert made.mix(4, [], asked=8) == []


def test_an_answer_without_advantage_is_never_kept() -> None:
    made = buffer()
    made.mix(0, [row("a", (0.0, 1.0))], asked=2)
    assert len(made) == 1


def test_a_resumed_run_draws_what_one_that_never_stopped_draws(tmp_path: Path) -> None:
    whole = buffer(max_age=50)
    for step in range(5):
        whole.mix(step, [row(f"p{step}", (1.0, -0.5, 0.25))], asked=4)
    whole.save(tmp_path / "buffer.jsonl")
    again = buffer(max_age=50)
    again.restore(
        tmp_path / "buffer.jsonl", lambda ids: {name: Problem(name, "?", ("1",)) for name in ids}
    )
    assert len(again) == len(whole) > 10
    for step in range(5, 8):
        assert again.mix(step, [], asked=3) == whole.mix(step, [], asked=3)


def test_what_a_reference_said_is_dropped_where_none_reads_new_answers(tmp_path: Path) -> None:
    (plain,) = row("a", (1.0,)).answers
    read = replace(plain, reference_logprobs=plain.sampler_logprobs)
    made, again = buffer(), buffer()
    made.mix(0, [TrainingRow(Problem("a", "?", ("1",)), (7, 8), (read,))], asked=1)
    made.save(tmp_path / "buffer.jsonl")
    for kept in (True, False):
        again.restore(
            tmp_path / "buffer.jsonl",
            lambda ids: {name: Problem(name, "?", ("1",)) for name in ids},
            with_reference=kept,
        )
        (found,) = again.mix(1, [], asked=1)[0].answers
        assert found.reference_logprobs == (read.reference_logprobs if kept else None)


def test_answers_keep_the_experts_of_their_tokens_through_a_resume(tmp_path: Path) -> None:
    """As bytes: an answer of thousands of tokens has millions of them."""
    chosen = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    (plain,) = row("a", (1.0,)).answers
    routed = TrainingRow(
        Problem("a", "?", ("1",)), (7, 8), (replace(plain, experts=chosen[:1]),), chosen
    )
    made, again = buffer(), buffer()
    made.mix(0, [routed, row("b", (1.0,))], asked=2)
    made.save(tmp_path / "buffer.jsonl")
    again.restore(
        tmp_path / "buffer.jsonl", lambda ids: {name: Problem(name, "?", ("1",)) for name in ids}
    )
    first, second = again.mix(1, [], asked=2)
    for found, expected in zip(first.experts, routed.experts, strict=True):
        assert found is not None and found.dtype == np.uint8
        np.testing.assert_array_equal(found, expected)
    assert second.experts == (None, None)
