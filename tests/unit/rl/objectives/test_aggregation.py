"""What a token counts, by hand."""

import pytest

from rl.objectives.aggregation import token_weights

LENGTHS = [[1, 3], [4]]
"""Tokens of each answer of two groups; 8 in all."""
CONSTANT = 4 * 5
"""Four answers were asked for, of at most 5 tokens each."""


@pytest.mark.parametrize(
    ("aggregation", "by_hand"),
    [
        # Each of 8 tokens counts 1 / 8.
        ("token_mean", [[1 / 8, 1 / 8], [1 / 8]]),
        # Three answers; each of an answer's tokens counts 1 / (3 * its tokens).
        ("sequence_mean", [[1 / 3, 1 / 9], [1 / 12]]),
        # Two groups of 4 tokens each.
        ("group_mean", [[1 / 8, 1 / 8], [1 / 8]]),
        # Of the four answers one is left out.
        ("constant", [[1 / 20, 1 / 20], [1 / 20]]),
    ],
)
def test_the_weight_of_a_token_by_hand(aggregation: str, by_hand: list[list[float]]) -> None:
    found = token_weights(LENGTHS, aggregation, CONSTANT)
    assert [[weight / 8 for weight in group] for group in found] == by_hand


def test_groups_of_other_sizes_count_alike_in_a_group_mean() -> None:
    (short, long), (alone,) = token_weights([[1, 1], [6]], "group_mean", CONSTANT)
    assert (short / 8, long / 8, alone / 8) == (1 / 4, 1 / 4, pytest.approx(1 / 12))


@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean", "group_mean"])
def test_a_mean_of_ones_is_one(aggregation: str) -> None:
    weights = token_weights(LENGTHS, aggregation, CONSTANT)
    total = sum(
        w * n
        for own, counts in zip(weights, LENGTHS, strict=True)
        for w, n in zip(own, counts, strict=True)
    )
    assert total / 8 == pytest.approx(1.0)
