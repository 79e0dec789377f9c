"""The wording of questions about the built-in digits, and of their answers.

A picture can also be told in words: `<img>35--</img>` has a digit, or a dash for an empty quadrant,
where an image token would stand. Language models learn from such lines alone what a projector will
later show them.
"""

from collections.abc import Sequence
from typing import Literal

AnswerStyle = Literal["list", "plain", "chain"]
"""How a question is answered: name the digits; give their sum at once; add them up in thoughts."""

MOST_DIGITS = 4
NUM_WORDINGS = 3
_EMPTY = "-"

_SUM_OF_PICTURE = (
    "What is the sum of the digits?",
    "What do the digits add up to?",
    "Add up the digits.",
)
_SUM_OF_WORDS = (
    "What is the sum of {}?",
    "What do {} add up to?",
    "Add up {}.",
)
LIST = "Which digits do you see?"
"""The question for the digits of a picture."""

SENTENCES: tuple[str, ...] = (
    *_SUM_OF_PICTURE,
    *(question.format("3, 5, 9") for question in _SUM_OF_WORDS),
    LIST,
)
"""Each question's wording, for tokenizers."""
EXAMPLES: tuple[str, ...] = (
    "<think></think>\\boxed{10}",
    "<think>I see 3,5,9.\n3+5=8\n8+9=17</think>\\boxed{17}",
)
"""A plain answer and one with a chain of thought, for tokenizers."""


def sum_question(digits: Sequence[int], wording: int, *, pictured: bool) -> str:
    """The question for the sum of the picture's digits, or of digits that it names itself.

    `wording` < NUM_WORDINGS picks one of its forms.
    """
    if pictured:
        return _SUM_OF_PICTURE[wording]
    return _SUM_OF_WORDS[wording].format(", ".join(map(str, digits)))


def picture_in_words(digits: Sequence[int]) -> str:
    """The text that stands for a picture of these digits: one character an image token."""
    return f"<img>{''.join(map(str, digits))}{_EMPTY * (MOST_DIGITS - len(digits))}</img>"


def answer_text(digits: Sequence[int], style: AnswerStyle) -> str:
    """The right answer about these digits.

    A chain names the digits in reading order and adds them up one at a time, a line each
    (`EXAMPLES`). A plain answer has empty think tags, so that both have one form.

    Raises:
        ValueError: there are fewer than two digits.
    """
    if len(digits) < 2:
        raise ValueError(f"{list(digits)} are not two or more digits: there is nothing to add")
    seen = ",".join(map(str, digits))
    if style == "list":
        return seen
    thoughts = _chain(digits, seen) if style == "chain" else ""
    return f"<think>{thoughts}</think>\\boxed{{{sum(digits)}}}"


def _chain(digits: Sequence[int], seen: str) -> str:
    sums: list[str] = []
    total = digits[0]
    for digit in digits[1:]:
        sums.append(f"{total}+{digit}={total + digit}")
        total += digit
    return "\n".join([f"I see {seen}.", *sums])
