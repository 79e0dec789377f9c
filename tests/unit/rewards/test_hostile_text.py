"""No text raises, and rewriting a right answer leaves it right."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from configs.schema.reward import RewardConfig
from rewards.completion import Completion
from rewards.math.comparison import MathComparison, extract_comparison
from rewards.math.equality import compare
from rewards.registry import INLINE
from rewards.text.answer import final_answer
from rewards.verifier.pool import VerifierPool
from rl.data.records import CAUSES, Problem, Verdict

CONFIG = RewardConfig(deadline_s=1.0)
FIELDS = {"options": ["Paris", "3 cm", "\\frac{1}{2}"], "boxes": [0, 0, 10, 10]}
PIECES = [
    "\\boxed{", "\\fbox{", "}", "{", "\\frac", "\\sqrt[", "]", "(", ")", "$", "\\[", "\\]", "^",
    "_", "<think>", "</think>", "Answer:", "answer is ", "\\text{", "\\begin{pmatrix}", "\\\\", "&",
    "\\end{pmatrix}", "\\left", "\\right", "\\overline{", "\\infty", "\\cup", "%", "\\%", "\\",
    "!", "1", "23", ".5", "-", "+", "=", "<", ",", "x", "B", "\n", " ", "\x00", "\u200b", "½", "é",
    "数", "\\int", "\\sum_{i=1}^{", "\\binom", "[0,1,2,3]", "\ud800",
]  # fmt: skip
texts = st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PIECES), max_size=25).map("".join))


@pytest.fixture(scope="module")
def pool() -> Iterator[VerifierPool]:
    verifiers = VerifierPool(CONFIG)
    yield verifiers
    verifiers.close()


def sane(verdict: Verdict) -> bool:
    return verdict.cause in CAUSES and 0.0 <= verdict.score <= 1.0


@settings(deadline=None)
@given(text=texts, gold=st.sampled_from(["8", "B", "[0, 0, 10, 10]", "\\frac{1}{2}", "(1, 2)"]))
def test_no_text_raises_in_the_rewards_that_run_in_place(text: str, gold: str) -> None:
    problem = Problem("row", "", (gold,), fields=FIELDS)
    for name, bind in INLINE.items():
        assert sane(bind(CONFIG)(problem, Completion(text, 10, 100, "stop"))), name


@settings(deadline=None)
@given(text=texts, gold=texts)
def test_no_row_raises_either(text: str, gold: str) -> None:
    problem = Problem("row", "", (gold,), fields={"options": gold, "boxes": gold})
    for name, bind in INLINE.items():
        assert sane(bind(CONFIG)(problem, Completion(text, 10, 100, "stop"))), name


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=texts.map(lambda inner: f"\\boxed{{{inner}}}"), gold=st.sampled_from(["8", "(1, 2)"]))
def test_no_text_crashes_a_verifier(pool: VerifierPool, text: str, gold: str) -> None:
    said = extract_comparison(
        Problem("row", "", (gold,)), Completion(text, 9, 99, "stop"), CONFIG.math, CONFIG.thinking
    )
    verdict = pool.submit(said).result(timeout=30) if isinstance(said, MathComparison) else said
    assert sane(verdict) and verdict.cause not in ("crash", "bad_gold"), verdict


RIGHT = [
    "8", "-3", "\\frac{1}{2}", "0.75", "50\\%", "(1, 2)", "[0, 1)", "\\{1, 2, 3\\}", "2\\sqrt{3}",
    "x^2 + 1", "y = 2x + 1", "\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "(-\\infty, 3]", "9\\pi",
]  # fmt: skip
REWRITES = {
    "spaces around": lambda form: f"  {form}  ",
    "double spaces": lambda form: form.replace(" ", "  "),
    "thin spaces": lambda form: form.replace(" ", "\\, "),
    "left and right": lambda form: form.replace("(", "\\left(").replace(")", "\\right)"),
    "dfrac": lambda form: form.replace("\\frac", "\\dfrac"),
    "trailing dot": lambda form: f"{form}.",
    "dollar signs": lambda form: f"${form}$",
    "display dollars": lambda form: f"$${form}$$",
    "parentheses of LaTeX": lambda form: f"\\({form}\\)",
    "displaystyle": lambda form: f"\\displaystyle {form}",
    "a box in the box": lambda form: f"\\boxed{{{form}}}",
}


@settings(max_examples=200, deadline=None)
@given(
    form=st.sampled_from(RIGHT),
    names=st.lists(st.sampled_from(sorted(REWRITES)), max_size=3, unique=True).filter(
        lambda names: sum("dollar" in name for name in names) < 2  # no LaTeX has $$$8$.$$
    ),
)
def test_a_right_answer_rewritten_stays_right(form: str, names: list[str]) -> None:
    text = form
    for name in names:
        text = REWRITES[name](text)
    said = extract_comparison(
        Problem("row", "", (form,)),
        Completion(f"<think>hm</think>so \\boxed{{{text}}}", 9, 99, "stop"),
        CONFIG.math,
        CONFIG.thinking,
    )
    verdict = said if isinstance(said, Verdict) else compare(said, CONFIG.math, lambda _: None)
    assert verdict.cause == "correct", (text, verdict)


@pytest.mark.parametrize(
    "text", ["$$\\boxed{8.}$$", "\\( \\boxed{8.} \\)", "\\displaystyle \\boxed{8.}", "$\\fbox{8}$."]
)
def test_a_box_between_dollars_in_a_box_is_taken_off(text: str) -> None:
    assert final_answer(f"<think>hm</think>\\boxed{{{text}}}", CONFIG.thinking) in ("8", "8.")
