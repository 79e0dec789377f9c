"""Grades by rules: each of the five points, and what takes it."""

import pytest

from configs.schema.reward import RewardConfig
from rewards.quality.chains import GradedChain, Quality
from rewards.quality.rules import grade_by_rules
from rl.console.errors import UserError
from rl.data.records import Problem

APPLES = Problem("apples", "3 apples and 4 apples, twice over?", ("14",))
CONFIG = RewardConfig(deadline_s=1.0)


def grades(*chains: tuple[Problem, str], config: RewardConfig = CONFIG) -> list[Quality]:
    return list(grade_by_rules([GradedChain(*chain) for chain in chains], config))


def thought(thoughts: str, answer: str) -> str:
    return f"<think>{thoughts}</think>The answer is \\boxed{{{answer}}}."


def test_each_thing_that_a_good_chain_has_is_a_point() -> None:
    chains = {
        thought("3 + 4 = 7, and 7 * 2 = 14.", "14"): 5,
        thought("3 + 4 = 7, and 7 * 2 = 14. Check: 14 / 2 = 7.", "14"): 4,  # ends elsewhere
        thought("3 + 4 = 8, and 7 * 2 = 14.", "14"): 4,  # a step is wrong
        thought("3 + 4 = 8, and 8 * 2 = 16.", "14"): 3,  # and the last one is not the answer
        thought("Seven, then twice seven.", "14"): 2,  # no step
        "3 + 4 = 7, and 7 * 2 = 14, so \\boxed{14}": 4,  # no think tags
        "\\boxed{14}": 1,
    }
    found = grades(*[(APPLES, text) for text in chains])
    assert [quality.grade for quality in found] == list(chains.values())
    assert found[0].reason == (
        "right answer (1); template kept (1); 2 steps of arithmetic (1); 2 equations hold (1); "
        "last step yields the answer (1)"
    )
    assert "3 + 4 = 8 does not hold (0)" in found[2].reason


def test_a_wrong_answer_is_worth_one_at_most() -> None:
    fine_but_wrong = thought("3 + 4 = 7, and 7 + 2 = 9.", "9")
    found = grades((APPLES, fine_but_wrong), (APPLES, "Nine."), (APPLES, ""))
    assert [quality.grade for quality in found] == [1, 0, 0]


def test_the_last_step_may_yield_the_text_of_the_option_that_the_answer_names() -> None:
    choice = Problem("c", "Twice 7?", ("B",), fields={"options": ["12", "14", "16"]})
    config = RewardConfig(weights={"choice": 1.0}, accuracy="choice")
    texts = [thought("7 * 2 = 14", "B"), thought("8 * 2 = 16", "B")]
    found = grades(*[(choice, text) for text in texts], config=config)
    assert [quality.grade for quality in found] == [5, 4]


def test_hostile_arithmetic_ends_and_takes_its_point_alone() -> None:
    tower = "9^{9^{9^{9}}} = 10^{10^{10^{10}}}"
    roots = "\\sqrt{" * 20 + "2" + "}" * 20 + " = 1"
    many = "1 + 1 = 2. " * 1001
    found = grades(
        *[(APPLES, thought(f"{evil}. 7 * 2 = 14", "14")) for evil in (tower, roots, many)]
    )
    assert [quality.grade for quality in found] == [4, 4, 3]
    assert "1002 steps, over 1000, are not checked" in found[2].reason


def test_a_row_that_cannot_be_scored_gets_no_grade() -> None:
    (quality,) = grades((Problem("empty", "?", ("",)), thought("1 + 1 = 2", "2")))
    assert quality.grade is None and "bad_gold" in quality.reason


def test_grades_come_in_order_for_more_chains_than_are_under_way() -> None:
    numbers = range(150)
    chains = [
        (Problem(str(n), f"{n} + 1?", (str(n + 1),)), f"\\boxed{{{n + n % 2}}}") for n in numbers
    ]
    assert [quality.grade for quality in grades(*chains)] == [n % 2 for n in numbers]


def test_a_judge_is_no_rule() -> None:
    served = {"model": "m"}
    config = RewardConfig.model_validate(
        {"weights": {"judge": 1}, "accuracy": "judge", "judge": served}
    )
    with pytest.raises(UserError, match=r"accuracy=judge.*name a rule"):
        grades((APPLES, ""), config=config)
