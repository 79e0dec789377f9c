"""The quick ways to a verdict end where math-verify's own way ends."""

import itertools

import pytest
from math_verify import LatexExtractionConfig, parse, verify

from configs.schema.reward import MathConfig
from rewards.math.comparison import MathComparison, clean_gold
from rewards.math.digit_bound import digit_bound
from rewards.math.equality import compare
from rewards.math.latex import parse_latex
from rewards.math.numeric_check import certainly_differ
from rewards.text.answer import last_box
from rewards.text.normalise import normalise
from tests.repository import ROOT

TABLE = (ROOT / "tests/unit/rewards/answer_pairs_math.txt").read_text(encoding="utf-8")
ROWS = [line.split("¦") for line in TABLE.splitlines() if "¦" in line and line[0] != "#"]
FORMS = sorted(
    {clean_gold(form) for row in ROWS for form in row[1].split("‖")}
    | {normalise(last_box(row[2]) or "") for row in ROWS}
)
TAME = [form for form in FORMS if form and "9^{9" not in form and "10^{10}" not in form]


@pytest.mark.parametrize("form", TAME)
def test_a_form_is_read_as_math_verify_reads_it(form: str) -> None:
    theirs = parse(
        rf"\boxed{{{form}}}", extraction_config=[LatexExtractionConfig()], parsing_timeout=0
    )
    assert repr(parse_latex(form)) == repr(theirs)


def test_what_values_tell_apart_math_verify_tells_apart() -> None:
    forms = [form for form in TAME if "202" not in form]
    told = 0
    for gold, answer in itertools.product(forms[::9], forms[4::9]):
        golds, answers = parse_latex(gold), parse_latex(answer)
        if golds and answers and certainly_differ(golds[0], answers[0]):
            told += 1
            assert not verify(golds[0], answers[0], timeout_seconds=0), (gold, answer)
    assert told > 100


@pytest.mark.parametrize(
    ("gold", "answer"),
    [("50\\%", "50"), ("1/3", "0.333333"), ("x+1", "1+x"), ("y=2x", "2x"), ("\\sqrt{x^2}", "|x|")],
)
def test_values_never_tell_equals_apart(gold: str, answer: str) -> None:
    assert not certainly_differ(parse_latex(gold)[0], parse_latex(answer)[0])


@pytest.mark.parametrize(
    ("form", "low", "high"),
    [
        ("12345", 5, 6),
        ("2^{10}", 3, 17),
        ("10^{6}", 6, 18),
        ("100!", 157, 159),
        ("x^2+1", 1, 20),
        ("9^{9^{9}}", 1e8, 1e9),
        ("9^{9^{9^{9}}}", 1e20, float("inf")),
        ("(10^{10})!", 1e10, 1e12),
        ("\\binom{10^9}{5 \\cdot 10^8}", 1e8, 1e11),
        ("\\sin(10^{10^{10}})", 1e9, 1e12),
        ("(x+1)^{100000}", 1e5, 1e6),
        ("\\prod_{i=1}^{10000000} i", 1e6, 1e9),
    ],
)
def test_digits_are_bounded_without_working_them_out(form: str, low: float, high: float) -> None:
    assert low <= digit_bound(parse_latex(form)[0]) <= high


def test_large_numbers_are_compared_as_they_stand() -> None:
    def cause(answer: str, gold: str) -> str:
        return compare(MathComparison(answer, (gold,)), MathConfig(), lambda _: None).cause

    tower = "9^{9^{9^{9}}}"
    assert cause(f"{tower} ", tower) == "correct"
    assert cause(tower, "8") == "unparsable"
    assert cause("8", tower) == "bad_gold"
    assert cause("2^{100000}", "2^{100001}") == "bad_gold"


def test_whoever_kills_the_comparison_is_told_what_was_being_read() -> None:
    phases: list[str] = []
    compare(MathComparison("1+1", ("2",)), MathConfig(), phases.append)
    assert phases == ["gold", "answer"]
