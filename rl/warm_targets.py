"""What the warm start teaches the laptop policy to say: bare answers, and answers that think."""

from collections.abc import Mapping
from typing import Any

EXAMPLES: tuple[str, ...] = (
    "<think></think>\\boxed{10}",
    "<think>I see 3,5,9.\n3+5=8\n8+9=17</think>\\boxed{17}",
)
"""One answer of each kind, for whoever builds a tokenizer."""


def target_text(fields: Mapping[str, Any], think: bool) -> str:
    """The answer that a problem's `digits` column calls for, with or without a chain of thought.

    The chain names the digits in reading order and adds them up one at a time, a line each
    (`EXAMPLES`). Without it the think tags are empty, so that both kinds of answer have one form.

    Raises:
        ValueError: `digits` is missing, or holds fewer than two numbers.
    """
    digits = [int(digit) for digit in fields.get("digits", ())]
    if len(digits) < 2:
        raise ValueError(
            f"a row's `digits` column is {fields.get('digits')!r}, not two or more numbers; "
            "name the column in data.reward_columns"
        )
    return f"<think>{_chain(digits) if think else ''}</think>\\boxed{{{sum(digits)}}}"


def _chain(digits: list[int]) -> str:
    sums: list[str] = []
    total = digits[0]
    for digit in digits[1:]:
        sums.append(f"{total}+{digit}={total + digit}")
        total += digit
    seen = ",".join(map(str, digits))
    return "\n".join([f"I see {seen}.", *sums])
