"""Imported once, by the process that verifier processes are forked from: pays for sympy there.

Reading one form of each kind also fills the LaTeX parser's prediction tables, which turns its
first 50 ms on a new kind of expression into 2.
"""

from configs.schema.reward import MathConfig
from rewards.math.comparison import MathComparison
from rewards.math.equality import compare

_FORMS = (
    r"\frac{1}{2}",
    r"-0.5",
    r"50\%",
    r"12,345",
    r"\{1, 2, 3\}",
    r"(-\infty, 3] \cup [5, 7)",
    r"(1, -2, 3)",
    r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}",
    r"y = 2x^2 - 3x + 1",
    r"x \le 3",
    r"\sqrt{2} + \sqrt[3]{5}",
    r"2\pi r^{2}",
    r"\sin(x) + \cos 30^\circ",
    r"\log_2 8",
    r"x = 1 \text{ or } x = 2",
    r"3 \text{ cm}",
    r"\text{east}",
    r"3 + 4i",
    r"5 \times 10^{-3}",
    r"|x - 1|",
    r"\binom{5}{2} \cdot 4!",
)
for _form in _FORMS:
    compare(MathComparison(_form, ("7",)), MathConfig(), lambda _: None)
    compare(MathComparison(_form, (rf"{_form} + 1",)), MathConfig(), lambda _: None)
