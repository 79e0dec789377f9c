"""What an answer votes for: equal answers vote alike, however they are written."""

import pytest

from configs.schema.reward import ThinkingConfig
from rl.benchmarks.votes import vote_of
from rl.data.records import Problem

OPEN = Problem("p", "?", ("1",))
CHOICE = Problem("p", "?", ("B",), fields={"options": ["cat", "dog", "cow"]})


@pytest.mark.parametrize(
    ("first", "second", "alike"),
    [
        ("\\boxed{0.5}", "\\boxed{1/2}", True),
        ("\\boxed{1,000}", "so it is \\boxed{1000.0}", True),
        ("\\boxed{Paris}", "\\boxed{paris}", True),
        ("\\boxed{3}", "\\boxed{4}", False),
        ("\\boxed{x+1}", "\\boxed{x + 1}", True),
    ],
)
def test_answers_that_are_equal_vote_alike(first: str, second: str, alike: bool) -> None:
    votes = [vote_of(OPEN, text, ThinkingConfig()) for text in (first, second)]
    assert (votes[0] == votes[1]) is alike
    assert None not in votes


def test_options_vote_by_their_letter_by_name_or_text() -> None:
    said = ("The answer is (B).", "\\boxed{B}", "\\boxed{dog}")
    assert {vote_of(CHOICE, text, ThinkingConfig()) for text in said} == {"B"}


def test_what_has_no_final_answer_does_not_vote() -> None:
    assert vote_of(OPEN, "", ThinkingConfig()) is None
