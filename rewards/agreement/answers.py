"""Whether two normalised answers agree, whatever they are: mathematics or words."""

import re
from enum import Enum
from functools import lru_cache

from rewards.agreement.quantities import bare, without_letters
from rewards.agreement.scalars import Scalars
from rewards.agreement.trees import Agreement
from rewards.reading.parser import read
from rewards.reading.tree import Node, TooLarge, Unreadable
from rewards.text.normalise import prose, same_text

_THOUSANDS = re.compile(r"\d,\d{3}(?!\d)")
_DECIMAL_COMMA = re.compile(r"(?<![\d.,])(-?0),(\d+)(?![\d.,])")
_YES_NO = re.compile(r"(yes|no|true|false)\b[,.;:]? ?")
_CLOCK = re.compile(r"(\d{1,2}:\d{2})(?: ?([ap]m))?")
_CALCULUS = re.compile(r"\\(?:o?i*int|lim|sum|prod)(?![a-z])|\\frac\{d\}")


class Reading(Enum):
    """What comparing an answer with its gold comes to."""

    SAME = "same"
    DIFFERENT = "different"
    UNREADABLE = "unreadable"
    """The answer is no mathematics, and its words are not the gold's."""
    CALCULUS = "calculus"
    """Integrals, limits, or sums without end, which a computer algebra system has to work out."""
    LARGE_GOLD = "large gold"
    LARGE_ANSWER = "large answer"


def agree(gold: str, answer: str, decimals: int, digits: int) -> Reading:
    """Compare two normalised answers.

    Args:
        decimals: places to which decimal fractions must agree.
        digits: most digits that a value may have.
    """
    if same_text(gold, answer):
        return Reading.SAME
    if None in (tree(gold), tree(answer)) and prose(gold) == prose(answer):
        return Reading.SAME
    agreement = _agreement(decimals, digits)
    comparable = True
    for thousands in (True, False) if _THOUSANDS.search(f"{gold}\n{answer}") else (True,):
        golds, answers = (tree(text, thousands=thousands) for text in (gold, answer))
        if golds is None or answers is None:
            continue
        try:
            if agreement.same(golds, answers):
                return Reading.SAME
        except TooLarge:
            return Reading.LARGE_GOLD if _too_large(golds, agreement) else Reading.LARGE_ANSWER
        except (Unreadable, ArithmeticError, RecursionError):
            comparable = False
    if _DECIMAL_COMMA.search(gold) or _DECIMAL_COMMA.search(answer):
        points = [_DECIMAL_COMMA.sub(r"\1.\2", text) for text in (gold, answer)]
        return agree(points[0], points[1], decimals, digits)
    return _without_agreement(gold, answer, comparable)


def _without_agreement(gold: str, answer: str, comparable: bool) -> Reading:
    first, second = prose(gold), prose(answer)
    if _YES_NO.fullmatch(first) and (said := _YES_NO.match(second)) and said[1] == first:
        return Reading.SAME
    times = _CLOCK.fullmatch(first), _CLOCK.fullmatch(second)
    if times[0] and times[1] and times[0][1] == times[1][1] and not (times[0][2] and times[1][2]):
        return Reading.SAME
    gold_tree, answer_tree = tree(gold), tree(answer)
    worked_out = comparable and gold_tree is not None and answer_tree is not None
    if not worked_out and (_CALCULUS.search(gold) or _CALCULUS.search(answer)):
        return Reading.CALCULUS
    if answer_tree is None and gold_tree is not None:
        return Reading.UNREADABLE
    return Reading.DIFFERENT


@lru_cache(maxsize=16)
def _agreement(decimals: int, digits: int) -> Agreement:
    return Agreement(decimals, digits)


def _too_large(node: Node, agreement: Agreement) -> bool:
    """Whether the node by itself has too many digits."""
    try:
        agreement.same(node, Node("symbol", name="x"))
        agreement.same(node, Node("constant", name="pi"))
    except TooLarge:
        return True
    except (Unreadable, ArithmeticError, RecursionError):
        return False
    return False


def tree(text: str, *, thousands: bool = True) -> Node | None:
    """The tree of a normalised answer, or None where it is no mathematics."""
    try:
        return read(text, thousands=thousands)
    except (Unreadable, RecursionError):
        return None


_MOST_DIGITS_OF_A_FLOAT = 320


def value_of(text: str) -> float | None:
    """The number that a normalised answer writes down, its unit left out; None where it is none.

    `x = 7.3 cm` is 7.3, `25%` is 0.25, `45^\\circ` is 45.
    """
    node = tree(text)
    if node is None:
        return None
    while node.kind == "relation" and set(node.name.split()) <= {"=", "~"}:
        node = node.parts[-1]
    node = bare(without_letters(node) or node)[0]
    if node.kind == "degrees":
        node = node.parts[0]
    try:
        value = Scalars(0, _MOST_DIGITS_OF_A_FLOAT).number(node)
        return float(value.real) if not value.imag else None
    except (ValueError, ArithmeticError, RecursionError):
        return None
