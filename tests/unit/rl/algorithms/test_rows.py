"""Rows and micro-batches: every answer once, no budget broken, ranks in step."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl.algorithms.rows import (
    TrainingAnswer,
    TrainingRow,
    build_microbatches,
    count_tokens,
    split_row,
)
from rl.data.records import Problem

LONGEST_PROMPT, LONGEST_ANSWER = 30, 20


def row(prompt: int, *lengths: int, name: str = "p", first: int = 0) -> TrainingRow:
    answers = tuple(
        TrainingAnswer(first + i, tuple(range(length)), 0.5, (-1.0,) * length)
        for i, length in enumerate(lengths)
    )
    return TrainingRow(Problem(name, "?", ("1",)), tuple(range(prompt)), answers)


@st.composite
def steps(draw: st.DrawFn) -> list[TrainingRow]:
    rows: list[TrainingRow] = []
    index = 0
    for place in range(draw(st.integers(0, 12))):
        lengths = draw(st.lists(st.integers(1, LONGEST_ANSWER), min_size=1, max_size=6))
        prompt = draw(st.integers(1, LONGEST_PROMPT))
        rows.append(row(prompt, *lengths, name=str(place), first=index))
        index += len(lengths)
    return rows


def test_a_row_holds_its_prompt_once_and_no_answer_s_last_token() -> None:
    assert row(10, 4, 1, 6).length == 10 + 3 + 0 + 5


def test_a_row_is_cut_where_the_next_answer_does_not_fit() -> None:
    pieces = split_row(row(10, 4, 4, 4, 7), 16)
    assert [[a.index for a in piece.answers] for piece in pieces] == [[0, 1], [2], [3]]
    assert [piece.length for piece in pieces] == [16, 13, 16]
    assert all(piece.prompt_ids == tuple(range(10)) for piece in pieces)


def test_an_answer_that_cannot_fit_is_named_with_all_numbers() -> None:
    with pytest.raises(ValueError) as caught:
        split_row(row(10, 3, 9, name="triangle-7"), 17)
    for part in ("'triangle-7'", "prompt of 10", "answer of 9", "max_tokens_per_microbatch=17"):
        assert part in str(caught.value)


def test_an_answer_that_just_fits_is_taken() -> None:
    assert len(split_row(row(10, 9), 18)) == 1


def test_equal_rows_fill_the_budget_and_are_dealt_evenly() -> None:
    rows = [row(8, 3, first=i, name=str(i)) for i in range(8)]
    dealt = build_microbatches(rows, 40, ranks=2)
    assert [[len(batch) for batch in share] for share in dealt] == [[4], [4]]


def test_few_rows_are_spread_over_the_ranks_before_they_are_joined() -> None:
    rows = [row(8, 3, first=i, name=str(i)) for i in range(2)]
    dealt = build_microbatches(rows, 1000, ranks=2)
    assert [[batch[0].problem.id for batch in share] for share in dealt] == [["0"], ["1"]]


def test_filler_keeps_ranks_in_step_and_weighs_nothing() -> None:
    dealt = build_microbatches([row(5, 3, 2)], 100, ranks=3)
    (real,), (filler,), (again,) = dealt
    assert [a.token_ids for a in real[0].answers] == [(0, 1, 2), (0, 1)]
    assert filler == again == ()
    everything = [piece for share in dealt for batch in share for piece in batch]
    assert count_tokens(everything) == count_tokens([row(5, 3, 2)]) == 5


def test_a_step_without_rows_has_no_microbatches() -> None:
    assert build_microbatches([], 100, ranks=3) == [(), (), ()]


@settings(deadline=None)
@given(
    rows=steps(),
    ranks=st.integers(1, 5),
    budget=st.integers(LONGEST_PROMPT + LONGEST_ANSWER - 1, 400),
)
def test_every_answer_is_learned_once_within_the_budget_on_ranks_in_step(
    rows: list[TrainingRow], ranks: int, budget: int
) -> None:
    dealt = build_microbatches(rows, budget, ranks)
    assert len(dealt) == ranks
    assert len({len(share) for share in dealt}) == 1
    batches = [batch for share in dealt for batch in share]
    for batch in batches:
        assert max((piece.length for piece in batch), default=0) * len(batch) <= budget

    asked = {a.index: (each, a) for each in rows for a in each.answers}
    real = [(piece, a) for batch in batches for piece in batch for a in piece.answers]
    assert sorted(a.index for _, a in real) == sorted(asked)
    for piece, given_answer in real:
        source, original = asked[given_answer.index]
        assert given_answer == original
        assert (piece.problem, piece.prompt_ids) == (source.problem, source.prompt_ids)
    assert sum(not batch for batch in batches) < ranks
    assert sum(len(a.token_ids) for _, a in real) == count_tokens(rows)
