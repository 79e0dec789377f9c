"""Splits an answer, in LaTeX or plain text, into tokens. Linear in the text's length."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rewards.reading.tree import Unreadable, words_of
from rewards.reading.words import CURRENCY, DEGREES, PERCENT, SCALES, SEPARATORS, unit_of

FUNCTIONS = words_of(
    "sin cos tan cot sec csc sinh cosh tanh coth sech csch arcsin arccos arctan arccot arcsec "
    "arccsc asin acos atan ln log lg exp sqrt abs max min gcd lcm det floor ceil cbrt sgn Re Im arg"
)
_NAMES = {
    "infinity": "infty", "inf": "infty", "oo": "infty", "pi": "pi", "Pi": "pi", "theta": "theta",
    "alpha": "alpha", "beta": "beta", "gamma": "gamma", "lambda": "lambda", "omega": "omega",
    "phi": "phi", "sigma": "sigma", "mu": "mu", "delta": "delta", "rho": "rho", "tau": "tau",
}  # fmt: skip
_ENGLISH = words_of(
    "no yes am pm the all any if is of to for not set per odd one two six ten box boy dog cat day "
    "men man are red new mod inf"
)
_PROSE = frozenset(
    ("text", "textrm", "mathrm", "mbox", "textit", "textsf", "rm", "hbox", "textnormal")
)
_FONTS = words_of(
    "textbf mathbf mathit mathsf boldsymbol bm mathcal mathscr mathfrak pmb operatorname bf it "
    "ensuremath displaystyle textstyle left right big Big bigl bigr Bigl Bigr bigg Bigg limits "
    "nolimits middle mathop mathord scriptstyle it sf underline boxed fbox cancel"
)
_SAME = {
    "leq": "le", "leqslant": "le", "leqq": "le", "geq": "ge", "geqslant": "ge", "geqq": "ge",
    "neq": "ne", "lt": "<", "gt": ">", "ast": "*", "cdotp": "cdot", "bullet": "cdot",
    "dots": "ldots", "cdots": "ldots", "dotsc": "ldots", "lbrace": "{", "rbrace": "}",
    "lbrack": "[", "rbrack": "]", "vert": "|", "lvert": "|", "rvert": "|", "Vert": "|",
    "lVert": "|", "rVert": "|", "mid": "|", "colon": ":", "land": "wedge", "lor": "vee",
    "varnothing": "emptyset", "empty": "emptyset", "dfrac": "frac", "tfrac": "frac",
    "cfrac": "frac", "dbinom": "binom", "tbinom": "binom", "backslash": "setminus",
    "degree": "circ", "simeq": "approx", "thickapprox": "approx", "varphi": "phi",
    "varepsilon": "epsilon", "vartheta": "theta", "Reals": "reals", "R": "reals", "tg": "tan",
    "ctg": "cot", "arctg": "arctan", "asin": "arcsin", "acos": "arccos", "atan": "arctan",
    "imath": "i", "wp": "p", "Box": "square", "lg": "log10",
}  # fmt: skip
_SHORT_UNITS = words_of("cm mm km kg mg ft in ml mL lb oz yd hr Hz kW kJ nm um Pa mi")
_UNIT_LETTERS = frozenset("mgshVAWNJLKCFTH")
_SPACES = frozenset(("quad", "qquad", "thinspace", "enspace", "space", "hspace", "nobreakspace"))


class Token(NamedTuple):
    """kind: number, letter, command, word or sign."""

    kind: str
    text: str
    spaced: bool = False
    """White space stood before it."""


_NUMBER = r"\d{1,3}(?:\{,\}\d{3})+(?:\.\d+)?|{THOUSANDS}\d+(?:\.\d+|\.(?![.\d]))?|\.\d+"
_EXPONENT = r"(?:[eE][+-]?\d{1,6}(?![\dA-Za-z.^_]))?"
_THOUSANDS = r"\d{1,3}(?:,\d{3})+(?![\d])(?:\.\d+)?|"
_REST = (
    r")|(?P<row>\\\\)|(?P<command>\\(?:[A-Za-z]+|[{}|%$&#_]))|(?P<space>\s+|~|\\[,;:! ])"
    r"|(?P<run>[^\W\d_]+(?:\.(?:[^\W\d_]\.?)+)?)|(?P<sign><=|>=|!=|==|=|\*\*|\.\.\.|.)"
)


def _pattern(thousands: str) -> re.Pattern[str]:
    number = _NUMBER.replace("{THOUSANDS}", thousands)
    return re.compile(rf"(?P<number>(?:{number}){_EXPONENT}" + _REST, re.DOTALL)


_PATTERNS = {True: _pattern(_THOUSANDS), False: _pattern("")}
_ARGUMENT = re.compile(r"\s*\{([^{}]*)\}")
_AFTER_NUMBER = re.compile(r"[\d)}\]!]\s*\Z")


def tokens(text: str, *, thousands: bool) -> list[Token]:
    """The tokens of a normalised answer; with `thousands`, `1,234` is one number.

    Raises:
        Unreadable: a sign that no answer has.
    """
    found: list[Token] = []
    _lex(text, _PATTERNS[thousands], found, prose=False)
    return found


def _lex(text: str, pattern: re.Pattern[str], found: list[Token], *, prose: bool) -> None:
    at, spaced = 0, prose
    while at < len(text):
        match = pattern.match(text, at)
        if match is None:
            raise Unreadable(text[at])
        kind, piece, at = str(match.lastgroup), match[0], match.end()
        if kind == "space":
            spaced = True
            continue
        if kind == "command":
            at = _command(piece, text, at, pattern, found, spaced)
        elif kind == "run":
            found.extend(_run(piece, spaced, prose=prose, after=found[-2:]))
        elif kind != "sign":
            found.append(Token("sign", "\n") if kind == "row" else Token(kind, piece, spaced))
        elif not (prose and piece in ".\"'$"):
            found.append(_sign(piece, spaced))
        spaced = False


def _sign(piece: str, spaced: bool) -> Token:
    if piece in CURRENCY:
        return Token("word", CURRENCY[piece], spaced)
    if piece == "...":
        return Token("command", "ldots")
    return Token("sign", "^" if piece == "**" else piece, spaced)


def _unit_letter(run: str, after: Sequence[Token]) -> bool:
    """Whether a single letter of a text is a unit: `5\\text{ m}`, `m/s`."""
    if run not in _UNIT_LETTERS or not after:
        return False
    stroke = len(after) > 1 and after[-1].text == "/" and after[-2].kind == "word"
    beside = after[-1].kind == "word" and unit_of(after[-1].text) is not None  # `5 N m`
    return stroke or beside or after[-1].kind in ("number", "command")


def _command(
    piece: str, text: str, at: int, pattern: re.Pattern[str], found: list[Token], spaced: bool
) -> int:
    """Take a command; returns where to go on, behind its argument where that is prose."""
    name = _SAME.get(piece[1:], piece[1:])
    if name in _SPACES or name in _FONTS:
        argument = _ARGUMENT.match(text, at) if name == "operatorname" else None
        if argument:
            found.extend(_run(argument[1].strip(), spaced, prose=True))
            return argument.end()
        return at
    if name in _PROSE:
        argument = _ARGUMENT.match(text, at)
        if argument is None:
            return at
        _lex(argument[1], pattern, found, prose=True)
        return argument.end()
    if name == "$":
        found.append(Token("word", "dollar", spaced))
    elif name in ("i", "p", "<", ">", "*", "[", "]", "|", ":", "%"):
        found.append(Token("letter" if name.isalpha() else "sign", name, spaced))
    elif name in "{}":
        found.append(Token("command", name, spaced))
    elif name in ("wedge", "vee"):
        found.append(Token("word", "and" if name == "wedge" else "or", spaced))
    else:
        found.append(Token("command", name, spaced))
    return at


def _run(run: str, spaced: bool, *, prose: bool, after: Sequence[Token] = ()) -> Iterator[Token]:
    """The tokens of a run of letters: a function, a name, a word, or a product of letters."""
    low = run.casefold()
    function = run in FUNCTIONS and not (prose and run in ("max", "min"))
    if prose and _unit_letter(run, after):
        yield Token("word", run, spaced)
    elif function or low in ("sin", "cos", "tan"):
        yield Token("command", _SAME.get(run, low if low in ("sin", "cos", "tan") else run), spaced)
    elif low in _NAMES and (run in _NAMES or low == "infinity"):
        yield Token("command", _NAMES[low], spaced)
    elif len(run) == 1 and run.isascii():
        yield Token("letter", run, spaced)
    elif _is_word(run, low, prose):
        yield Token("word", run, spaced)
    elif run[:3] in FUNCTIONS and len(run) <= 5:
        yield Token("command", run[:3], spaced)
        for letter in run[3:]:
            yield Token("letter", letter)
    else:
        for index, letter in enumerate(run):
            yield Token("letter", letter, spaced and not index)


def _is_word(run: str, low: str, prose: bool) -> bool:
    if prose or not run.isascii() or "." in run or len(run) > 4:
        return True
    if run.isupper() and len(run) < 4 and low not in ("am", "pm", "usd"):
        return False
    if low in SEPARATORS or low in _ENGLISH or low in PERCENT or low in DEGREES or low in SCALES:
        return True
    if len(run) == 2 and run not in _SHORT_UNITS:
        return False
    if run[:3] in FUNCTIONS:
        return False
    return unit_of(run) is not None or (len(run) == 4 and len(set(run)) == 4 and low != "abcd")
