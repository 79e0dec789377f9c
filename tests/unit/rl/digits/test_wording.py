"""Questions and answers about the built-in digits."""

import pytest

from rl.digits.wording import EXAMPLES, answer_text, picture_in_words, sum_question


def test_a_chain_names_the_digits_and_adds_them_one_at_a_time() -> None:
    assert answer_text([3, 5, 9], "chain") == EXAMPLES[1]
    assert answer_text([7, 0], "chain") == "<think>I see 7,0.\n7+0=7</think>\\boxed{7}"


def test_a_plain_answer_has_empty_think_tags_and_the_same_box() -> None:
    assert answer_text([1, 9], "plain") == EXAMPLES[0]


def test_a_list_names_the_digits_as_a_chain_does() -> None:
    assert answer_text([4, 0, 4, 1], "list") == "4,0,4,1"


def test_one_digit_has_no_sum() -> None:
    with pytest.raises(ValueError, match=r"\[5\] are not two"):
        answer_text([5], "plain")


def test_a_picture_in_words_has_one_character_for_each_quadrant() -> None:
    assert picture_in_words([3, 5]) == "<img>35--</img>"
    assert picture_in_words([1, 2, 3, 4]) == "<img>1234</img>"


def test_only_a_question_without_a_picture_names_the_digits() -> None:
    assert sum_question([3, 5], 2, pictured=False) == "Add up 3, 5."
    assert sum_question([3, 5], 2, pictured=True) == "Add up the digits."
