"""The `math` reward, second half: whether answer and gold are equal, by math-verify.

As any use of sympy on untrusted text it may hang, eat memory or kill its process, so it runs in
processes that are killed at a deadline (`rewards.verifier`). math-verify's own timeouts are off:
they use SIGALRM, which that deadline needs.
"""

import logging
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal

from math_verify import verify
from sympy import Basic, Derivative, Integral, Limit, Product, Sum

from configs.schema.reward import MathConfig
from rewards.agreement.answers import Reading, agree, tree
from rewards.math.comparison import MathComparison
from rewards.math.digit_bound import digit_bound
from rewards.math.latex import parse_latex
from rewards.math.numeric_check import certainly_differ
from rl.data.records import Cause, Verdict

Phase = Literal["gold", "answer"]
_CALCULUS = (Integral, Sum, Product, Limit, Derivative)

for _name in ("math_verify.parser", "math_verify.grader"):
    logging.getLogger(_name).setLevel(logging.ERROR)  # would warn of the timeouts being off


def compare(
    claim: MathComparison, config: MathConfig, entering: Callable[[Phase], None]
) -> Verdict:
    """Whether the claim's answer equals one of its gold forms.

    Trees are compared by their values; what is left of calculus goes to math-verify. `entering` is
    called before the gold and before the answer are read, so that a process killed on the way shows
    which of the two was at fault.
    """
    entering("gold")
    for form in claim.gold:
        tree(form)  # remembered; should it hang, the gold is at fault
    entering("answer")
    readings = [_reading(claim, form, config) for form in claim.gold]
    if Reading.SAME in readings:
        return Verdict(1.0, "correct", claim.answer)
    if Reading.CALCULUS in readings:
        return _by_math_verify(claim, config, entering)
    over = f"working it out takes over {config.max_digits} digits"
    right = " or ".join(claim.gold)
    if Reading.LARGE_GOLD in readings:
        return Verdict(0.0, "bad_gold", f"gold {right}: {over}", gold_side=True)
    if Reading.LARGE_ANSWER in readings:
        return Verdict(0.0, "unparsable", f"{claim.answer}: {over}")
    if all(reading is Reading.UNREADABLE for reading in readings):
        return Verdict(0.0, "unparsable", f"{claim.answer!r} is no mathematics")
    return Verdict(0.0, "wrong", f"{claim.answer} is not {right}")


def _reading(claim: MathComparison, form: str, config: MathConfig) -> Reading:
    """What comparing the answer with one gold form comes to, all boxes tried where it has them."""
    reading = agree(form, claim.answer, config.decimals, config.max_digits)
    if reading is not Reading.SAME and claim.boxes:
        together = agree(form, claim.boxes, config.decimals, config.max_digits)
        return together if together is Reading.SAME else reading
    return reading


def _by_math_verify(
    claim: MathComparison, config: MathConfig, entering: Callable[[Phase], None]
) -> Verdict:
    """The verdict where integrals, limits or endless sums have to be worked out."""
    entering("gold")
    golds = [_read(form, "gold") for form in claim.gold]
    for form, gold in zip(claim.gold, golds, strict=True):
        if not gold:
            return Verdict(0.0, "bad_gold", f"gold answer {form!r} cannot be read", gold_side=True)
    entering("answer")
    answer = _read(claim.answer, "answer")
    verdicts = [_one(answer, gold, claim, config) for gold in golds]
    return min(verdicts, key=lambda verdict: _BEST_FIRST.index(verdict.cause))


_BEST_FIRST: tuple[Cause, ...] = ("correct", "bad_gold", "unparsable", "wrong")


def _one(answer: list[Any], gold: list[Any], claim: MathComparison, config: MathConfig) -> Verdict:
    """The verdict against one gold form; both sides as `parse_latex` returns them."""
    large_answer, large_gold = _too_large(answer, config), _too_large(gold, config)
    if (large_answer or large_gold) and not any(form in gold for form in answer):
        over = f"working it out takes over {config.max_digits} digits"
        if large_gold:
            return Verdict(0.0, "bad_gold", f"gold {' or '.join(claim.gold)}: {over}", True)
        return Verdict(0.0, "unparsable", f"{claim.answer}: {over}")
    if not _surely_differ(gold, answer) and verify(
        gold,
        answer,
        float_rounding=config.decimals,
        allow_set_relation_comp=True,
        timeout_seconds=None,
    ):
        return Verdict(1.0, "correct", claim.answer)
    if all(isinstance(form, str) for form in answer):
        return Verdict(0.0, "unparsable", f"{claim.answer!r} is no mathematics")
    return Verdict(0.0, "wrong", f"{claim.answer} is not {' or '.join(claim.gold)}")


def _surely_differ(gold: list[Any], answer: list[Any]) -> bool:
    """Whether the values differ, where each side is one expression with a text of its own."""
    one_each = len(gold) == len(answer) == 2 and gold[1] != answer[1]
    return one_each and certainly_differ(gold[0], answer[0])


def _too_large(forms: list[Any], config: MathConfig) -> bool:
    return any(digit_bound(form) > config.max_digits for form in forms if not isinstance(form, str))


@lru_cache(maxsize=4096)
def _read(form: str, side: Phase) -> list[Any]:
    """`parse_latex(form)`, remembered; integrals, sums and limits of a gold are worked out here."""
    forms = parse_latex(form)
    if side == "gold":
        for expression in forms:
            if isinstance(expression, Basic) and expression.has(*_CALCULUS):
                expression.doit()  # sympy keeps the result; should it hang, the gold is at fault
    return forms
