r"""Finds the arithmetic that a text states: `3 + 4 = 7`, `\frac{1}{2} \times 6 = 3`.

Only equations in numbers alone count. A side beside which a letter, an unknown sign or a word that
calculates stands is left out, since it says something else. Linear in the text's length.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Sign = Literal["=", "~"]

_LONGEST_SIDE = 300
_NEAR = 40
"""Characters beside a run in which the word next to it is looked for."""
_REWRITES = (
    (re.compile(r"\\f?box(?:ed)?\s*\{([^{}]*)\}"), r" (\1) "),
    (re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox)\s*\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"\\\\|\r"), "\n"),
    (re.compile(r"\\(?:left|right|displaystyle|quad|[,;:! ()\[\]])|\\?\$\$?|&|`"), " "),
    (re.compile(r"(?<![\d)}] )(?<![\d)}])\*\*|\*\*(?! ?[-\d({])"), " "),
    (re.compile(r"^[ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t]+", re.MULTILINE), " "),
    (re.compile(r"(?<=\d)( ?)[xX]( ?)(?=\d)"), r"\1×\2"),
    (re.compile("=="), "="),
)
_PIECE = re.compile(
    r"(?P<number>(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?%?|\.\d+%?|[¼-¾⅐-⅞])"
    r"|(?P<command>\\(?:[dt]?frac|times|cdot|div|sqrt)(?![A-Za-z]))"
    r"|(?P<equal>=(?!>)|\\approx(?![A-Za-z])|≈)"
    r"|(?P<operator>\*\*|[-+*/^×·÷−√]|[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+)|(?P<bracket>[(){}])|(?P<space>[ \t]+)"
)
_OPERATES = re.compile(r"[+*/^×·÷√⁰-⁹²³¹]|[\d)}] ?[-−]|\\(?:[dt]?frac|times|cdot|div|sqrt)")
_BEGINS_BADLY = re.compile(r"[*/^×·÷]|\\(?:times|cdot|div)")
_ENDS_BADLY = re.compile(r"(?:[-+*/^×·÷−√]|\\(?:times|cdot|div|sqrt|[dt]?frac))\Z")
_TWO_NUMBERS = re.compile(r"[\d%.]\s+[\d.]")
_WORD_BEFORE = re.compile(r"([^\W\d_]+)\Z")
_WORD_AFTER = re.compile(r"[^\W\d_]+")
_CALCULATES = (
    "plus|minus|times|over|mod|modulo|percent|root|squared|cubed|power|point|log|ln|sin|cos|tan|sqrt|"
    "half"
)
_BEFORE = re.compile(rf"{_CALCULATES}|of|by|per|than|base", re.IGNORECASE)
_AFTER = re.compile(
    rf"{_CALCULATES}|choose|dozen|hundred|thousand|million|billion|trillion", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class StatedEquation:
    """Two or more sides that a text sets equal."""

    sides: tuple[str, ...]
    signs: tuple[Sign, ...]
    """Between the sides; `~` where it says that they are nearly equal."""

    @property
    def text(self) -> str:
        """As it could be written."""
        behind = [f" {sign} {side}" for sign, side in zip(self.signs, self.sides[1:], strict=True)]
        return self.sides[0] + "".join(behind)


def stated_equations(text: str) -> list[StatedEquation]:
    """The arithmetic equations of `text` in order; at least one side of each calculates."""
    for pattern, plain in _REWRITES:
        text = pattern.sub(plain, text)
    found: list[StatedEquation] = []
    for start, end, pieces in _runs(text):
        if any(kind == "equal" for kind, _ in pieces):
            found += _equations(pieces, _cut_before(text, start, end), _cut_after(text, end))
    return found


_Pieces = list[tuple[str, str]]


def _runs(text: str) -> Iterator[tuple[int, int, _Pieces]]:
    """Longest stretches of numbers and signs of arithmetic, with where they begin and end."""
    pieces: _Pieces = []
    start = at = 0
    for match in _PIECE.finditer(text):
        if pieces and match.start() != at:
            yield start, at, pieces
            pieces = []
        if not pieces:
            start = match.start()
        pieces.append((str(match.lastgroup), match[0]))
        at = match.end()
    if pieces:
        yield start, at, pieces


def _cut_before(text: str, start: int, end: int) -> bool:
    """Whether what stands before a run belongs to its first side."""
    before = text[max(0, start - _NEAR) : start]
    spaced = text[start] in " \t"
    word = _WORD_BEFORE.search(before)
    if word is not None:
        joined = not spaced or len(word[1]) == 1 or _BEFORE.fullmatch(word[1]) is not None
        return joined or text[start:end].lstrip()[0] in "+-−"
    if not before or before[-1].isspace():
        return False
    return before[-1] not in ".,;:!?>" or (not spaced and before[-2:-1].isdigit())


def _cut_after(text: str, end: int) -> bool:
    """Whether what stands behind a run belongs to its last side."""
    after = text[end : end + _NEAR]
    word = _WORD_AFTER.match(after)
    if word is not None:
        spaced = text[end - 1] in " \t"
        return not spaced or len(word[0]) == 1 or _AFTER.fullmatch(word[0]) is not None
    return bool(after) and not after[0].isspace() and after[0] not in ".,;:!?<=⇒→"


def _equations(pieces: _Pieces, cut_before: bool, cut_after: bool) -> Iterator[StatedEquation]:
    """The equations of one run: neighbouring sides that are whole expressions."""
    sides, signs = [""], list[Sign]()
    for kind, piece in pieces:
        if kind == "equal":
            signs.append("=" if piece == "=" else "~")
            sides.append("")
        else:
            sides[-1] += piece
    whole = [_whole(side) for side in sides]
    whole[0] = None if cut_before else whole[0]
    whole[-1] = None if cut_after else whole[-1]
    held: list[str] = []
    for place, side in enumerate([*whole, None]):
        if side is not None:
            held.append(side)
            continue
        if len(held) > 1 and any(map(_OPERATES.search, held)):
            first = place - len(held)
            yield StatedEquation(tuple(held), tuple(signs[first : place - 1]))
        held = []


def _whole(side: str) -> str | None:
    """A side by itself, or None where it is no whole expression."""
    side = _without_open_brackets(side.strip())
    if not any(map(str.isnumeric, side)) or len(side) > _LONGEST_SIDE:
        return None
    broken = _BEGINS_BADLY.match(side) or _ENDS_BADLY.search(side) or _TWO_NUMBERS.search(side)
    return None if broken else side


def _without_open_brackets(side: str) -> str:
    """A side without the bracket around its equation, as in `(2 + 3 = 5)`; empty where others are
    left open."""
    opened = closed = 0
    for sign in side:
        opened += sign in "({"
        closed += sign in ")}"
        if closed > opened:
            return side[:-1].strip() if closed == opened + 1 and side.endswith(sign) else ""
    if opened == closed:
        return side
    return side[1:].strip() if opened == closed + 1 and side[0] in "({" else ""
