"""Each reward against numbers worked by hand."""

import pytest

from configs.schema.reward import PRESETS, RewardConfig, ThinkingConfig
from rewards.completion import Completion
from rewards.functions.format import format_reward
from rewards.functions.iou import iou, iou_reward
from rewards.functions.length import length_reward
from rewards.functions.numeric import number
from rewards.functions.repetition import repetition_reward
from rewards.text.answer import final_answer, last_box
from rewards.text.normalise import normalise
from rewards.weighting import weighted_score
from rl.data.records import Problem, Verdict

PROBLEM = Problem("row", "what?", ("8",))
TAGS = ThinkingConfig()


def completion(text: str, tokens: int = 10, limit: int = 100, reason: str = "stop") -> Completion:
    return Completion(text, tokens, limit, "length" if reason == "length" else "stop")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("<think>3+5=8</think>\\boxed{8}", ""),
        ("\n<think>\nlong\n</think>\n\n8", ""),
        ("\\boxed{8}", "<think> stands 0 times"),
        ("<think>a</think><think>b</think>8", "<think> stands 2 times"),
        ("<think>a</think></think>8", "</think> stands 2 times"),
        ("<think>a", "</think> stands 0 times"),
        ("</think>a<think>8", "stands before"),
        ("Well <think>a</think>8", "text before"),
        ("<think> \n</think>8", "nothing between"),
        ("<think>a</think> \n", "no answer after"),
    ],
)
def test_format_names_what_breaks_the_template(text: str, fault: str) -> None:
    verdict = format_reward(PROBLEM, completion(text), TAGS)
    assert (verdict.cause == "correct") == (not fault)
    assert fault in verdict.detail


def test_format_follows_the_recipes_template() -> None:
    opened = ThinkingConfig(prompt_opens=True)
    assert format_reward(PROBLEM, completion("a</think>8"), opened).score == 1.0
    assert format_reward(PROBLEM, completion("<think>a</think>8"), opened).score == 0.0
    empty = ThinkingConfig(allow_empty=True)
    assert format_reward(PROBLEM, completion("<think></think>8"), empty).score == 1.0
    other = ThinkingConfig(open_tag="[R]", close_tag="[/R]")
    assert format_reward(PROBLEM, completion("[R]a[/R]8"), other).score == 1.0


def test_an_answer_is_not_looked_for_while_the_prompts_thoughts_are_open() -> None:
    opened = ThinkingConfig(prompt_opens=True)
    assert final_answer("it is \\boxed{8}", opened) is None
    assert final_answer("it is \\boxed{7}</think>\\boxed{8}", opened) == "8"
    assert final_answer("it is \\boxed{8}", TAGS) == "8"


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed{\\left\\{1, 2\\right\\}}", "\\left\\{1, 2\\right\\}"),
        ("\\boxed{\\{1, 2}", "\\{1, 2"),
        ("\\boxed{1} \\boxed{2", "1"),
        ("\\boxed{\\boxed{\\fbox{3}}}", "3"),
        ("\\boxed{x = \\boxed{3} + 1}", "x = \\boxed{3} + 1"),
        ("\\boxed7", "7"),
        ("\\boxedcontent{7}", None),
        ("}}}{{{", None),
    ],
)
def test_the_last_box_is_the_last_whose_braces_close(text: str, content: str | None) -> None:
    assert last_box(text) == content


def test_twenty_thousand_boxes_take_no_time() -> None:
    assert last_box("\\boxed{" * 20_000) is None
    assert last_box("\\boxed{1}" * 20_000) == "1"
    assert last_box("\\boxed{" * 20_000 + "1" + "}" * 20_000) is not None


@pytest.mark.parametrize(
    ("tokens", "score"), [(1, 1.0), (80, 1.0), (85, 0.75), (95, 0.25), (99, 0.05), (100, 0.0)]
)
def test_length_falls_from_one_to_zero_over_the_last_tokens(tokens: int, score: float) -> None:
    verdict = length_reward(PROBLEM, completion("x", tokens), overlong_tokens=20)
    assert verdict.score == pytest.approx(score)


def test_an_answer_cut_off_has_no_length_score() -> None:
    assert length_reward(PROBLEM, completion("x", 100, reason="length"), 20).score == 0.0


def test_repetition_is_the_share_of_ngrams_seen_before() -> None:
    # a b a b a: the pairs are ab ba ab ba, two of four were seen before
    assert repetition_reward(PROBLEM, completion("a b a b a"), ngram=2).score == 0.5
    assert repetition_reward(PROBLEM, completion("a b c d e"), ngram=2).score == 1.0
    assert repetition_reward(PROBLEM, completion("a"), ngram=2).score == 1.0
    assert repetition_reward(PROBLEM, completion("a " * 101), ngram=2).score == 0.01


def test_iou_of_boxes_that_share_a_quarter() -> None:
    # 5 x 5 shared of 100 + 100 - 25
    assert iou((0, 0, 10, 10), (5, 5, 15, 15)) == pytest.approx(25 / 175)
    assert iou((0, 0, 10, 10), (10, 0, 20, 10)) == 0.0


def test_iou_counts_boxes_too_many_and_does_not_mind_their_order() -> None:
    problem = Problem("row", "", ("-",), fields={"boxes": [[0, 0, 10, 10], [20, 20, 30, 30]]})
    right = "[0,0,10,10] [20,20,30,30]"
    swapped = "[20,20,30,30] [0,0,10,10]"
    assert iou_reward(problem, completion(right), TAGS).score == 1.0
    assert iou_reward(problem, completion(swapped), TAGS).score == 1.0
    assert iou_reward(problem, completion("[0,0,10,10]"), TAGS).score == 0.5
    spare = iou_reward(problem, completion(right + "[50,50,60,60]"), TAGS).score
    assert spare == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12.5", 12.5),
        ("-3", -3.0),
        ("1,234.5", 1234.5),
        ("\\frac{1}{4}", 0.25),
        ("3/8", 0.375),
        ("25\\%", 0.25),
        ("2 \\times 10^{-3}", 0.002),
        ("\\$7", 7.0),
        ("9" * 400, None),
        ("1 \\times 10^{9999}", None),
        ("x", None),
    ],
)
def test_numbers_are_read_in_the_forms_that_models_write(text: str, value: float | None) -> None:
    assert number(text) == (None if value is None else pytest.approx(value))


def test_numeric_tolerance_is_the_wider_of_absolute_and_relative() -> None:
    from rewards.functions.numeric import numeric_reward

    config = RewardConfig(absolute_tolerance=0.5, relative_tolerance=0.01)
    small, large = Problem("s", "", ("10",)), Problem("l", "", ("1000",))
    assert numeric_reward(small, completion("\\boxed{10.5}"), config).score == 1.0
    assert numeric_reward(small, completion("\\boxed{10.6}"), config).score == 0.0
    assert numeric_reward(large, completion("\\boxed{1010}"), config).score == 1.0
    assert numeric_reward(large, completion("\\boxed{1011}"), config).score == 0.0


def test_normal_form_keeps_what_it_does_not_know() -> None:
    assert normalise("\\frac{x^2}{y}") == "\\frac{x^2}{y}"
    assert normalise(" $5$. ") == "5"
    assert normalise("5 million") == "5 \\times 10^{6}"


def test_a_score_is_the_weighted_sum() -> None:
    config = RewardConfig(weights={"math": 0.8, "format": 0.2})
    right, wrong = Verdict(1.0, "correct"), Verdict(0.0, "wrong")
    assert weighted_score({"format": right, "math": right}, config).reward == pytest.approx(1.0)
    assert weighted_score({"math": right, "format": wrong}, config).reward == pytest.approx(0.8)
    assert list(weighted_score({"format": right, "math": right}, config).verdicts) == [
        "math",
        "format",
    ]


@pytest.mark.parametrize(
    ("verdict", "speaks"),
    [
        (Verdict(0.0, "timeout"), True),
        (Verdict(0.0, "timeout", gold_side=True), False),
        (Verdict(0.0, "crash"), False),
        (Verdict(0.0, "bad_gold"), False),
        (Verdict(0.0, "unparsable"), True),
    ],
)
def test_a_verdict_that_says_nothing_of_the_policy_gives_no_reward(
    verdict: Verdict, speaks: bool
) -> None:
    config = RewardConfig(weights={"math": 1.0, "format": 1.0})
    reward = weighted_score({"math": verdict, "format": Verdict(1.0, "correct")}, config).reward
    assert reward == (1.0 if speaks else None)


def test_a_reward_of_weight_zero_cannot_take_the_answer_out() -> None:
    config = RewardConfig(weights={"math": 0.0, "format": 1.0})
    verdicts = {"math": Verdict(0.0, "bad_gold"), "format": Verdict(1.0, "correct")}
    assert weighted_score(verdicts, config).reward == 1.0


def test_presets_weigh_as_the_papers_did() -> None:
    assert RewardConfig(weights="R1").weights == {"math": 1.0, "format": 1.0}  # pyright: ignore
    assert RewardConfig(weights="R1V3").weights == {"math": 0.8, "format": 0.2}  # pyright: ignore
    with pytest.raises(ValueError, match="name one of R1, R1V3"):
        RewardConfig(weights="R1V4")  # pyright: ignore
    assert set(PRESETS) == {"R1", "R1V3"}
