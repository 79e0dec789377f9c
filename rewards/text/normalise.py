"""Rewrites an answer into the LaTeX that math-verify reads. Pure text, linear time, no sympy.

Touches only forms that math-verify gets wrong, and never changes what they mean.
"""

import re
from collections.abc import Callable

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u200b-\u200f\u2028-\u202f\u2060\ufeff]")
_SIGNS = str.maketrans("\u2212\u2013\uff0c\uff08\uff09\u00a0", "--,() ") | str.maketrans(
    {
        "\u00d7": r"\times ",
        "÷": r"\div ",
        "·": r"\cdot ",
        "π": r"\pi ",
        "∞": r"\infty ",
        "≤": r"\le ",
        "≥": r"\ge ",
        "≠": r"\ne ",
        "\u222a": r"\cup ",
        "∩": r"\cap ",
        "∈": r"\in ",
        "±": r"\pm ",
        "°": r"^\circ ",
        "∅": r"\emptyset ",
        "²": "^2",
        "³": "^3",
        "½": r"\frac{1}{2}",
        "¼": r"\frac{1}{4}",
        "¾": r"\frac{3}{4}",
        "\uff05": r"\%",
    }
)
_Rewrite = tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]


def _rational(match: re.Match[str]) -> str:
    """0.1\\overline{6} as a fraction: (16 - 1) / 90."""
    sign, whole, fixed, period = match.groups()
    shift = 10 ** len(fixed)
    numerator = int(f"{whole or 0}{fixed}{period}") - int(f"{whole or 0}{fixed}")
    return rf"{sign}\frac{{{numerator}}}{{{shift * (10 ** len(period) - 1)}}}"


_REWRITES: tuple[_Rewrite, ...] = (
    (re.compile(r"\\(?:left|right|big|Big|bigg|Bigg|displaystyle|textstyle)(?![A-Za-z])\.?"), ""),
    (re.compile(r"\\[dtc]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"(?<=\d)(?:\\[,!;: ]|~|\{,\})(?=\d{3}(?!\d))"), ","),
    (re.compile(r"\\[,!;:]|\\quad(?![A-Za-z])|\\qquad(?![A-Za-z])|~"), " "),
    (re.compile(r"\\varnothing(?![A-Za-z])|\\\{\s*\\\}"), r"\\emptyset "),
    (re.compile(r"\\langle(?![A-Za-z])"), "("),
    (re.compile(r"\\rangle(?![A-Za-z])"), ")"),
    (
        re.compile(r"(-?)\b(\d{0,15})\.(\d{0,15})\\(?:overline|bar|dot)\{?(\d{1,15})\}?"),
        _rational,
    ),
    (re.compile(r"√\{?(\d{1,15}|[a-z])\}?"), r"\\sqrt{\1}"),
    (re.compile(r"\s+"), " "),
)


def _named_power(match: re.Match[str]) -> str:
    return rf"{match[1]} \times 10^{{{_POWERS[match[2].casefold()]}}}"


_POWERS = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_WHOLE: tuple[_Rewrite, ...] = (  # only where the whole answer has the form
    (re.compile(r"\A(?:\\approx|\\simeq|≈|=) *(.+)\Z"), r"\1"),
    (re.compile(r"\A(-?\d{1,3}(?: \d{3})+)\Z"), lambda match: match[1].replace(" ", "")),
    (re.compile(r"\A(-?)(\d+)(?: +| and )(\d+)/(\d+)\Z"), r"\1\2\\frac{\3}{\4}"),
    (re.compile(r"\A(-?\d+(?:\.\d+)?)[eE]\+?(-?\d+)\Z"), r"\1 \\times 10^{\2}"),
    (
        re.compile(
            r"\A(-?\\?\$?\d[\d,]*(?:\.\d+)?) *(?:\\(?:text|mathrm)\{)? *"
            r"(thousand|million|billion|trillion)(?: [a-z]+)? *\}?\Z",
            re.IGNORECASE,
        ),
        _named_power,
    ),
    (
        re.compile(r"\A(?:(?:the set of )?(?:all )?real numbers|all reals)\Z", re.IGNORECASE),
        r"\\mathbb{R}",
    ),
)
_WRAPPED = re.compile(
    r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mathsf|mbox|rm|bf|operatorname)"
    r"\s*\{([^{}]*)\}"
)
_NUMBER_WITH_WORDS = re.compile(
    r"(-?\\?\$?\d[\d,]*(?:\.\d+)?(?:\\frac\{\d+\}\{\d+\})?|-?\\frac\{\d+\}\{\d+\}) *"
    r"([A-Za-z][A-Za-z./-][A-Za-z./ -]*(?:\^\{?[23]\}?)?)"
)
_WORDS_OF_VALUE = re.compile(
    r"\b(?:and|or|to|by|if|thousand|million|billion|trillion|hundred|dozen|half|pi|sin|cos|tan|log|"
    r"ln|sqrt|percent|mod|am|pm|th|st|nd|rd|base)\b",
    re.IGNORECASE,
)
_DOLLARS = re.compile(r"\$\$?([^$]*)\$?\$|\\\((.*)\\\)|\\\[(.*)\\\]", re.DOTALL)
_MAX_WRAPPERS = 8
_PROSE = re.compile(r"[A-Za-z]{3}|\bno\b", re.IGNORECASE)


def normalise(text: str) -> str:
    """The answer in the form in which it is compared."""
    text = _unwrapped(_CONTROL.sub("", text.translate(_SIGNS)))
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    text = _unwrapped(text)
    for pattern, replacement in _WHOLE:
        text = pattern.sub(replacement, text)
    return _without_words(text)


def _unwrapped(text: str) -> str:
    """The text without dollar signs, a text command or a full stop around all of it."""
    for _ in range(_MAX_WRAPPERS):
        before, text = text, text.strip().rstrip(". ")
        if (match := _DOLLARS.fullmatch(text) or _WRAPPED.fullmatch(text)) is not None:
            text = next(group for group in match.groups() if group is not None)
        if text == before:
            break
    return text


def _without_words(text: str) -> str:
    """A number without the words behind it: `5 dollars` is 5; `5 million` stays."""
    match = _NUMBER_WITH_WORDS.fullmatch(text)
    return match[1] if match and not _WORDS_OF_VALUE.search(match[2]) else text


def same_text(one: str, other: str) -> bool:
    """Whether two answers are the same text, but for wrappers, spaces and, in words, case."""
    one, other = (" ".join(_WRAPPED.sub(r"\1", text).split()) for text in (one, other))
    if one == other:
        return True
    return "\\" not in one and bool(_PROSE.search(one)) and _words(one) == _words(other)


def _words(text: str) -> str:
    return re.sub(r"[^\w:/+\-]+", " ", text.casefold()).strip()
