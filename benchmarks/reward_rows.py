"""Rows for the reward benchmark: honest answers of many kinds, and hostile ones. All seeded."""

import random
from collections.abc import Callable
from fractions import Fraction

Row = tuple[str, str]
"""Gold answer, and the text of a model's answer to it."""

_PROSE = (
    "so then we first look at the picture and read off each side which gives that area must "
    "be twice as large because both angles are equal hence it follows by adding them up once more"
)
_WORDS = _PROSE.split()


def honest_groups(count: int, size: int, seed: int) -> list[tuple[str, list[str]]]:
    """`count` golds with `size` answers each, no two (answer, gold) pairs alike."""
    draw = random.Random(seed)
    groups: list[tuple[str, list[str]]] = []
    golds: set[str] = set()
    while len(groups) < count:
        kind = _KINDS[len(groups) % len(_KINDS)]
        forms = kind(draw)
        if forms[0] in golds:
            continue
        answers = list(dict.fromkeys(forms))
        while len(answers) < size:
            wrong = kind(draw)
            form = wrong[draw.randrange(len(wrong))]
            if form not in answers:
                answers.append(form)
        chosen = answers[:size]
        draw.shuffle(chosen)
        golds.add(forms[0])
        groups.append((forms[0], [text_of(answer, draw) for answer in chosen]))
    return groups


def text_of(answer: str, draw: random.Random) -> str:
    """An answer of about 80 words that ends in a box."""
    thoughts = " ".join(draw.choices(_WORDS, k=draw.randint(40, 100)))
    return f"<think>{thoughts}</think>\nThe answer is $\\boxed{{{answer}}}$."


def _integer(draw: random.Random) -> list[str]:
    n = draw.randint(-999_999, 999_999)
    return [f"{n}", f"{n:,}", f"{n}.0", f"{n} \\text{{ cm}}"]


def _fraction(draw: random.Random) -> list[str]:
    top, bottom = draw.randint(1, 97), draw.randint(2, 99)
    return [
        f"\\frac{{{top}}}{{{bottom}}}",
        f"\\dfrac{{{2 * top}}}{{{2 * bottom}}}",
        f"{top}/{bottom}",
    ]


def _decimal(draw: random.Random) -> list[str]:
    hundredths = draw.randint(1, 99_999)
    exact = Fraction(hundredths, 100)
    forms = [f"{hundredths / 100:.2f}", f"{hundredths / 100:.3f}"]
    return [*forms, f"\\frac{{{exact.numerator}}}{{{exact.denominator}}}"]


def _percent(draw: random.Random) -> list[str]:
    n = draw.randint(1, 9999) / 10
    return [f"{n}\\%", f"{n} \\%", f"{n}", f"{n} \\text{{ percent}}"]


def _money(draw: random.Random) -> list[str]:
    n = draw.randint(1000, 999_999)
    return [f"\\${n:,}", f"{n}", f"{n} \\text{{ dollars}}", f"\\${n}.00"]


def _root(draw: random.Random) -> list[str]:
    a, b = draw.randint(2, 40), draw.choice([2, 3, 5, 6, 7, 10, 11, 13])
    return [f"{a}\\sqrt{{{b}}}", f"\\sqrt{{{a * a * b}}}", f"\\sqrt{{{b}}} \\cdot {a}"]


def _pi(draw: random.Random) -> list[str]:
    a, b = draw.randint(2, 90), draw.randint(2, 9)
    return [f"\\frac{{{a}\\pi}}{{{b}}}", f"\\frac{{{a}}}{{{b}}}\\pi", f"{a}\\pi/{b}"]


def _polynomial(draw: random.Random) -> list[str]:
    a, b = draw.randint(1, 60), draw.randint(1, 60)
    return [
        f"(x+{a})(x-{b})",
        f"x^2 + {a - b}x - {a * b}".replace("+ -", "- "),
        f"(x-{b})(x+{a})",
    ]


def _equation(draw: random.Random) -> list[str]:
    a, b = draw.randint(2, 60), draw.randint(1, 60)
    return [f"y = {a}x + {b}", f"y={b}+{a}x", f"{a}x + {b}"]


def _interval(draw: random.Random) -> list[str]:
    a, b = sorted(draw.sample(range(-200, 200), 2))
    return [f"[{a}, {b})", f"\\left[{a},{b}\\right)", f"[{a}.0, {b})"]


def _set(draw: random.Random) -> list[str]:
    a, b, c = draw.sample(range(-300, 300), 3)
    return [f"\\{{{a}, {b}, {c}\\}}", f"\\{{{c},{a},{b}\\}}", f"{b}, {c}, {a}"]


def _tuple(draw: random.Random) -> list[str]:
    a, b, c = draw.sample(range(-300, 300), 3)
    return [f"({a}, {b}, {c})", f"\\left({a},{b},{c}\\right)", f"({a}.0, {b}, {c})"]


def _matrix(draw: random.Random) -> list[str]:
    a, b, c, d = draw.sample(range(-90, 90), 4)
    return [
        f"\\begin{{pmatrix}} {a} & {b} \\\\ {c} & {d} \\end{{pmatrix}}",
        f"\\begin{{bmatrix}}{a}&{b}\\\\{c}&{d}\\end{{bmatrix}}",
    ]


def _text(draw: random.Random) -> list[str]:
    words = " ".join(draw.sample(_WORDS[:20], 2))
    return [words, f"\\text{{{words}}}", f"\\textbf{{{words.capitalize()}}}"]


_KINDS: tuple[Callable[[random.Random], list[str]], ...] = (
    _integer, _fraction, _decimal, _percent, _money, _root, _pi, _polynomial,
    _equation, _interval, _set, _tuple, _matrix, _text,
)  # fmt: skip


def hostile_answers(count: int, seed: int) -> list[str]:
    """Texts whose verification never ends, or takes all memory, when nothing is done about it."""
    draw = random.Random(seed)
    return [_HOSTILE[index % len(_HOSTILE)](draw) for index in range(count)]


_HOSTILE: tuple[Callable[[random.Random], str], ...] = (
    lambda draw: f"\\boxed{{{draw.randint(5, 9)}^{{9^{{9^{{{draw.randint(5, 9)}}}}}}}}}",
    lambda draw: f"\\boxed{{(10^{{{draw.randint(8, 12)}}})!}}",
    lambda draw: "\\boxed{" + str(draw.randint(1, 9)) * 100_000 + "}",
    lambda draw: "\\boxed{" + "(" * 3000 + str(draw.randint(1, 9)) + ")" * 3000 + "}",
    lambda draw: "\\boxed{\\frac{" * draw.randint(2000, 3000),
    lambda draw: "\\boxed{\\begin{pmatrix}" + "1 & 2 \\\\ " * draw.randint(900, 999)
    + "1 & 2\\end{pmatrix}}",
    lambda draw: "\\boxed{0." + str(draw.randint(3, 9)) * draw.randint(20_000, 30_000) + "}",
    lambda draw: "\\boxed{" + "\x00\x1b\x07\u202e" * draw.randint(500, 900) + "7}",
    lambda draw: f"\\boxed{{\\binom{{10^{{{draw.randint(8, 11)}}}}}{{5 \\cdot 10^7}}}}",
    lambda draw: f"\\boxed{{(x+{draw.randint(2, 99)})^{{1000000}} + \\sin(10^{{10^{{10}}}})}}",
    lambda draw: "\\boxed{" + "\\sqrt{1+" * 200 + str(draw.randint(1, 9)) + "}" * 200 + "}",
    lambda draw: f"\\boxed{{(\\int_0^1 e^{{x^2}}\\sin(x^3 + {draw.random():.2f}) dx, 1)}}",
)  # fmt: skip
