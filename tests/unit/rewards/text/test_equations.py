"""Which arithmetic a text states, and which of it is no equation in numbers alone."""

import pytest

from configs.schema.reward import MathConfig
from rewards.math.arithmetic import EquationCheck, check_equations
from rewards.text.equations import stated_equations


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        ("So 3 + 4 = 7, and 2 x 5 = 10 = 20/2.", ["3 + 4 = 7", "2 × 5 = 10 = 20/2"]),
        ("- 3 + 4 = 7\n2) 8 - 3 = 5.", ["3 + 4 = 7", "8 - 3 = 5"]),
        (
            r"\[ \frac{1}{2} + \frac{1}{3} = \frac{5}{6} \]",
            [r"\frac{1}{2} + \frac{1}{3} = \frac{5}{6}"],
        ),
        ("$3 * $4 = $12 in all", ["3 *  4 = 12"]),
        (r"x &= 3 + 4 \\ &= 3 \cdot 2 = 7 \text{ apples}", [r"3 \cdot 2 = 7"]),
        ("(2 + 3 = 5)", ["2 + 3 = 5"]),
        (r"thus 3 + 4 = \boxed{7}", ["3 + 4 = (7)"]),
        ("y = -3 + 5 = 2", ["-3 + 5 = 2"]),
        ("**3² + 4² = 25**", ["3² + 4² = 25"]),
        ("2**3 = 8", ["2**3 = 8"]),
        ("22/7 ≈ 3.14", ["22/7 ~ 3.14"]),
        ("3, 4 + 5 = 9", ["4 + 5 = 9"]),
    ],
)
def test_an_equation_in_numbers_is_found(text: str, stated: list[str]) -> None:
    assert [equation.text for equation in stated_equations(text)] == stated


@pytest.mark.parametrize(
    "text",
    [
        "x + 3 = 7",
        "area - 3 = 7",
        "2x = 6",
        "7 = 3 + x",
        "7 = 3x + 1",
        "f(3) = 9 + 1",
        "10% of 50 + 2 = 7",
        "3:4 + 1 = 5",
        "4 + 4 = 8 thousand",
        r"1 + 1 = 2\pi",
        "step 2 3 + 4 = 7",
        "age = 7",
        "3 + 4 > 5",
    ],
)
def test_a_side_with_letters_or_words_that_calculate_is_no_arithmetic(text: str) -> None:
    assert stated_equations(text) == []


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("3 + 4 = 7", True),
        ("3 + 4 = 8", False),
        ("2 + 3 = 5 = 1 + 4", True),
        ("2 + 3 = 5 + 1 = 6", False),  # the habit of running on from one line to the next
        ("10/3 = 3.33", True),
        ("10/3 = 3.34", False),
        ("2/3 = 0.66", False),  # cut off, not rounded
        ("0.1 + 0.2 = 0.4", False),
        ("22/7 ≈ 3.14", True),
        ("200/7 ≈ 28", False),  # 28.57 is 2 % away
        ("1,200 + 3 = 1,203", True),
        ("50/200 = 25%", True),
        (r"\frac{1}{2} + \frac{1}{3} = \frac{5}{6}", True),
        ("1/0 = 5", False),
        ("9^9^9^9^9 = 5", False),
        ("(" * 50 + "1+1" + ")" * 50 + " = 2", False),
    ],
)
def test_what_holds(text: str, holds: bool) -> None:
    verdict = check_equations(EquationCheck(tuple(stated_equations(text))), MathConfig())
    assert stated_equations(text) and (verdict.cause == "correct") == holds


def test_the_first_equation_that_does_not_hold_is_named() -> None:
    check = EquationCheck(tuple(stated_equations("1 + 1 = 2\n2 + 2 = 5\n3 + 3 = 7")))
    verdict = check_equations(check, MathConfig())
    assert verdict.detail == "2 + 2 = 5 does not hold"
