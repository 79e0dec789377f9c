"""Rewrites an answer into the LaTeX in which it is read. Pure text, linear time, no sympy.

Touches only the spelling of an answer, and never changes what it means.
"""

import re
from collections.abc import Callable

from rewards.text.unicode import fold

_Rewrite = tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]


def _rational(match: re.Match[str]) -> str:
    """0.1\\overline{6} as a fraction: (16 - 1) / 90."""
    sign, whole, fixed, period = match.groups()
    shift = 10 ** len(fixed)
    numerator = int(f"{whole or 0}{fixed}{period}") - int(f"{whole or 0}{fixed}")
    return rf"{sign}\frac{{{numerator}}}{{{shift * (10 ** len(period) - 1)}}}"


def _mixed(match: re.Match[str]) -> str:
    """A mixed number as LaTeX writes it; `1 3/2` is none."""
    sign, whole, top, bottom = match.groups()
    proper = len(top) < len(bottom) or (len(top) == len(bottom) and top < bottom)
    return rf"{sign}{whole}\frac{{{top}}}{{{bottom}}}" if proper else match[0]


_REWRITES: tuple[_Rewrite, ...] = (
    (re.compile(r"\\(?:left|right|big|Big|bigg|Bigg|displaystyle|textstyle)(?![A-Za-z])\.?"), ""),
    (re.compile(r"\\[dtc]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"(?<=\d)\s*(?:,\s*\\[!,]|\\!|\\[,;: ]|~|\{,\})\s*(?=\d{3}(?!\d))"), "{,}"),
    (re.compile(r"\\!|\\(?:phantom|hphantom)\{[^{}]*\}"), ""),
    (re.compile(r"(?<=\d)\{:\}(?=\d)"), ":"),
    (re.compile(r"\\choose(?![A-Za-z])"), "\\\\choose "),
    (re.compile(r"\{\s*(\w+)\s*\\choose\s*(\w+)\s*\}"), r"\\binom{\1}{\2}"),
    (re.compile(r"\\(?:lt|gt)(?![A-Za-z])"), lambda match: "<" if match[0] == "\\lt" else ">"),
    (re.compile(r"\\[,!;:]|\\quad(?![A-Za-z])|\\qquad(?![A-Za-z])|~"), " "),
    (re.compile(r"\\varnothing(?![A-Za-z])|\\\{\s*\\\}"), r"\\emptyset "),
    (re.compile(r"\\langle(?![A-Za-z])"), "("),
    (re.compile(r"\\rangle(?![A-Za-z])"), ")"),
    (
        re.compile(r"(-?)\b(\d{0,15})\.(\d{0,15})\\(?:overline|bar|dot)\{?(\d{1,15})\}?"),
        _rational,
    ),
    (re.compile(r"\s+"), " "),
)


def _named_power(match: re.Match[str]) -> str:
    return rf"{match[1]} \times 10^{{{_POWERS[match[2].casefold()]}}}"


_POWERS = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_WHOLE: tuple[_Rewrite, ...] = (  # only where the whole answer has the form
    (re.compile(r"\A(?:\\approx|\\simeq|≈|=) *(.+)\Z"), r"\1"),
    (re.compile(r"\A(-?\d{1,3}(?: \d{3})+)\Z"), lambda match: match[1].replace(" ", "")),
    (re.compile(r"\A(-?)(\d+)(?: +| and )(\d+)/(\d+)\Z"), _mixed),
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
_DOLLARS = re.compile(r"\$\$?([^$]*)\$?\$|\\\((.*)\\\)|\\\[(.*)\\\]", re.DOTALL)
_DOLLAR = re.compile(r"(?<!\\)\$")
_MAX_WRAPPERS = 8
_PROSE = re.compile(r"[A-Za-z]{3}|\bno\b", re.IGNORECASE)


def normalise(text: str) -> str:
    """The answer in the form in which it is compared."""
    text = _unwrapped(fold(text))
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    text = _unwrapped(text)
    if (dollars := _DOLLAR.findall(text)) and len(dollars) % 2 == 0:
        text = _DOLLAR.sub(" ", text).strip()
    for pattern, replacement in _WHOLE:
        text = pattern.sub(replacement, text)
    return text


def _unwrapped(text: str) -> str:
    """The text without dollar signs, a text command or a full stop around all of it."""
    for _ in range(_MAX_WRAPPERS):
        before, text = text, text.strip().rstrip(". ")
        if (match := _DOLLARS.fullmatch(text) or _WRAPPED.fullmatch(text)) is not None:
            text = next(group for group in match.groups() if group is not None)
        if text == before:
            break
    return text


def same_text(one: str, other: str) -> bool:
    """Whether two answers are the same text, but for wrappers, spaces and, in words, case."""
    one, other = (" ".join(_WRAPPED.sub(r"\1", text).split()) for text in (one, other))
    if one == other:
        return True
    return "\\" not in one and bool(_PROSE.search(one)) and _words(one) == _words(other)


def _words(text: str) -> str:
    return " ".join(_MARKS.sub(" ", text.casefold()).split())


def prose(text: str) -> str:
    """An answer in words, in the form in which words are compared.

    Case, articles, the dots of `p.m.`, the ending of `20th` and marks that say nothing are left
    out; signs of mathematics are kept.
    """
    text = _WRAPPED.sub(r" \1 ", text.replace("~", " "))
    text = _DAYTIME.sub(r"\1m", text.casefold())
    text = _ORDINAL.sub(r"\1", text)
    return " ".join(_BESIDE_MARK.sub(r"\1", _LITTLE_WORDS.sub(" ", _MARKS.sub(" ", text))).split())


_MARKS = re.compile(
    r"[\"`\u00b4]+|(?<=[a-z]{2})'(?=[a-z])|(?<=[a-z]{3})[!?]+|(?<!\d)[.](?!\d)|[.]\s*\Z"
)
_DAYTIME = re.compile(r"\b([ap])\s*\.?\s*m\b\.?")
_ORDINAL = re.compile(r"(?<=\d)(?:st|nd|rd|th)\b()")
_LITTLE_WORDS = re.compile(r"(?<!\S)(?:the|an|a|it|they|is|are|on|there)(?!\S)")
_BESIDE_MARK = re.compile(r"\s*([^\w\s])\s*")
