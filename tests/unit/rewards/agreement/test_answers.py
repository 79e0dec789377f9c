"""Answers are read whole or not at all, and what is worked out is bounded beforehand."""

import time

import pytest

from rewards.agreement.answers import Reading, agree, tree, value_of
from rewards.agreement.quantities import same_quantity
from rewards.agreement.scalars import Scalars
from rewards.reading.parser import read
from rewards.reading.tree import Node, TooLarge, Unreadable, integer
from rewards.text.normalise import normalise
from rewards.text.unicode import fold

DECIMALS, DIGITS = 6, 20_000


def reading(gold: str, answer: str) -> Reading:
    return agree(normalise(gold), normalise(answer), DECIMALS, DIGITS)


@pytest.mark.parametrize(
    "text",
    ["5 or more", "12 squared", "1 2", "x +", "(1, 2", "\\frac{1}", "3 \\foo 4", "at least 5", "]"],
)
def test_a_text_of_which_a_part_is_unknown_is_not_read(text: str) -> None:
    with pytest.raises(Unreadable):
        read(text)


def test_letters_beside_each_other_are_a_product_and_words_are_units() -> None:
    assert read("ab") == Node("multiply", (Node("symbol", name="a"), Node("symbol", name="b")))
    assert read("5\\text{ cm}").name == "cm"
    assert read("2\\frac{1}{2}") == Node("add", (integer(2), read("\\frac{1}{2}")))


@pytest.mark.parametrize(
    ("written", "latex"),
    [
        ("x⁻²", "x^{-2}"),
        ("⅔", "\\frac{2}{3}"),
        ("\uff11\uff12", "12"),
        ("\u221215", "-15"),
        ("√15", "\\sqrt{15}"),
        ("a₁₂", "a_{12}"),
        ("\u211d", "\\mathbb{R}"),
        ("10 μm", "10 um"),
        ("π", "\\pi "),
    ],
)
def test_unicode_is_written_as_latex(written: str, latex: str) -> None:
    assert fold(written) == latex


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-\\frac78", -0.875),
        ("5\\sqrt{4}", 10.0),
        ("x = 7.3 \\text{ cm}", 7.3),
        ("25\\%", 0.25),
        ("45^\\circ", 45.0),
        ("12 squared", None),
        ("x", None),
    ],
)
def test_a_number_is_what_the_whole_text_is_worth(text: str, value: float | None) -> None:
    assert value_of(normalise(text)) == value


@pytest.mark.parametrize(
    ("gold", "answer"),
    [("1.6e-19", "1.5e-19"), ("1.6e-19", "0"), ("1e-30", "-1e-30"), ("\\frac{1}{90!}", "0.0")],
)
def test_tiny_numbers_are_compared_by_their_ratio(gold: str, answer: str) -> None:
    assert reading(gold, answer) is Reading.DIFFERENT
    assert reading(gold, gold) is Reading.SAME


def test_neither_side_decides_alone() -> None:
    pairs = [("x = 5", "5"), ("(1, 2]", "1 < x \\le 2"), ("1, 2", "\\{2, 1\\}"), ("50\\%", "50")]
    for one, other in pairs:
        assert reading(one, other) is reading(other, one) is Reading.SAME


def test_units_of_one_kind_are_converted_and_a_missing_unit_is_not_missed() -> None:
    equal = Scalars(DECIMALS, DIGITS).equal

    def alike(one: str, other: str) -> bool:
        return same_quantity(read(one), read(other), equal)

    assert alike("2\\text{ hours}", "120\\text{ min}")
    assert alike("2\\text{ hours}", "2")
    assert not alike("2\\text{ hours}", "2\\text{ min}")
    assert not alike("2\\text{ apples}", "2\\text{ pears}")


@pytest.mark.parametrize(
    "answer",
    [
        "9^{9^{9^{9}}}",
        "(10^{10})!",
        "\\binom{10^{10}}{5 \\cdot 10^9}",
        "\\sin(10^{10^{10}})",
        "\\sum_{k=1}^{10^{9}} k",
        "2^{2^{2^{2^{2^{2}}}}} + x",
        "1e999999999",
    ],
)
def test_what_would_never_end_is_told_at_once(answer: str) -> None:
    began = time.perf_counter()
    assert reading("8", answer) in (Reading.LARGE_ANSWER, Reading.UNREADABLE, Reading.DIFFERENT)
    assert time.perf_counter() - began < 0.5


@pytest.mark.parametrize("text", ["(" * 500 + "1" + ")" * 500, "-" * 2000 + "1", "\\sqrt{" * 300])
def test_deep_nesting_is_not_followed(text: str) -> None:
    assert tree(text) is None


def test_a_value_with_too_many_digits_is_refused_before_it_is_worked_out() -> None:
    with pytest.raises(TooLarge):
        Scalars(DECIMALS, 100).equal(read("2^{1000}"), integer(8))
    assert Scalars(DECIMALS, 400).equal(read("2^{1000}"), read("4^{500}"))
