"""Unicode mathematics as LaTeX: signs, letters, super- and subscripts, fractions, digits."""

import re
import unicodedata
from functools import lru_cache

_LETTERS = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau "
    "upsilon phi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega"
)
_GREEK = dict(
    zip(
        "αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΦΨΩ",
        _LETTERS.split(),
        strict=True,
    )
)
_COMMANDS = {
    "×": "times", "✕": "times", "∗": "cdot", "÷": "div", "·": "cdot", "⋅": "cdot", "•": "cdot",
    "∞": "infty", "≤": "le", "≥": "ge", "⩽": "le", "⩾": "ge", "≦": "le", "≧": "ge", "≠": "ne",
    "≈": "approx", "≃": "approx", "≅": "cong", "≡": "equiv", "∪": "cup", "⋃": "cup", "∩": "cap",
    "⋂": "cap", "∖": "setminus", "∈": "in", "∉": "notin", "±": "pm", "∓": "mp", "∅": "emptyset",
    "∑": "sum", "∏": "prod", "∫": "int", "∠": "angle", "△": "triangle", "∥": "parallel",
    "⊥": "perp", "⌊": "lfloor", "⌋": "rfloor", "⌈": "lceil", "⌉": "rceil", "⟨": "langle",
    "⟩": "rangle", "〈": "langle", "〉": "rangle", "…": "ldots", "⋯": "ldots", "→": "to",
    "⇒": "Rightarrow", "∣": "mid", "∧": "wedge", "∨": "vee", "ϕ": "phi", "ϵ": "epsilon",
    "ℏ": "hbar", "∂": "partial", "′": "prime",
}  # fmt: skip
_NAMED = {sign: rf"\{name} " for sign, name in (_COMMANDS | _GREEK).items()}
_PLAIN = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "﹣": "-", "°": r"^\circ ", "º": r"^\circ ",
    "℃": r"^\circ C", "℉": r"^\circ F", "、": ", ", "。": ". ", "%": r"%", "₹": "₹", "⁄": "/",
    "∕": "/", "∶": ":", "“": '"', "”": '"', "‘": "'", "’": "'",
}  # fmt: skip
_BOARD = {sign: rf"\mathbb{{{letter}}}" for sign, letter in zip("ℝℕℤℚℂ", "RNZQC", strict=True)}
_SIGNS = str.maketrans(_NAMED | _PLAIN | _BOARD)
_CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f\u200b-\u200f\u2028-\u202f\u2060\u2061-\u2064\ufeff]"
)
_SUPERSCRIPTS = re.compile(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱ]+")
_SUBSCRIPTS = re.compile(r"[₀₁₂₃₄₅₆₇₈₉₊₋₍₎ₐₑₒₓₙₘₖᵢⱼ]+")
_FRACTIONS = re.compile("[¼-¾⅐-⅞↉]")
_ROOT = re.compile(r"([√∛∜])\s*(\d+(?:\.\d+)?|[A-Za-z]|\\[a-z]+(?![a-z])(?!\s*\{))?")
_MICRO = re.compile(r"(?<=[\d\s}])[µμ](?=(?:m|g|s|L|l|A|V|F|W|C|mol|H|Pa)\b)")
_ROOTS = {"√": r"\sqrt", "∛": r"\sqrt[3]", "∜": r"\sqrt[4]"}


@lru_cache(maxsize=4096)
def fold(text: str) -> str:
    """`text` with Unicode mathematics written as LaTeX, and digits and letters in their plain form.

    Superscripts become `^{...}`, subscripts `_{...}`; what is left goes through NFKC.
    """
    if text.isascii():
        return _CONTROL.sub("", text)
    text = _MICRO.sub("u", text)
    text = _SUPERSCRIPTS.sub(lambda run: f"^{{{_nfkc(run[0])}}}", text)
    text = _SUBSCRIPTS.sub(lambda run: f"_{{{_nfkc(run[0])}}}", text)
    text = _FRACTIONS.sub(_fraction, text)
    text = _CONTROL.sub("", text.translate(_SIGNS))
    text = _nfkc(text).translate(_SIGNS)
    return _ROOT.sub(_root, text)


def _nfkc(text: str) -> str:
    return unicodedata.normalize("NFKC", text).replace("−", "-")


def _fraction(match: re.Match[str]) -> str:
    top, _, bottom = _nfkc(match[0]).partition("⁄")
    return rf"\frac{{{top}}}{{{bottom}}}"


def _root(match: re.Match[str]) -> str:
    root, under = _ROOTS[match[1]], match[2]
    return f"{root}{{{under}}}" if under else root
