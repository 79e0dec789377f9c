"""What a person reads of one graded answer."""

from rl.data.records import Answer, Group, Problem, Score, ScoredGroup, Verdict
from rl.run_log.console_lines import graded_answer_text


def graded(text: str, *, question: str = "What is [2] + 2?") -> str:
    answer = Answer((5, 6), (-0.1, -0.2), text, "length", 0)
    verdicts = {
        "math": Verdict(1.0, "correct", "4 = 4"),
        "format": Verdict(0.0, "wrong", "</think> stands 0 times, not once"),
    }
    group = Group(Problem("p1", question, ("4", "four")), (1, 2, 3), (answer,))
    scored = ScoredGroup(group, (Score(verdicts, 0.9),))
    return graded_answer_text(scored, {"math": 0.9, "format": 0.1})


def test_each_reward_is_shown_with_its_weight_and_reason_beside_gold_and_answer() -> None:
    said = graded("It is\n\\boxed{4}")
    assert "gold[/dim] 4 | four" in said
    assert "It is\\n\\boxed{4}" in said
    assert "(2 tokens, cut off)" in said
    assert "reward[/dim]   0.9" in said
    assert "0.9 x math 1, correct: 4 = 4" in said
    assert "0.1 x format 0, wrong: </think> stands 0 times, not once" in said


def test_brackets_of_a_question_are_no_markup_and_long_answers_lose_their_middle() -> None:
    said = graded("a" * 500 + "MIDDLE" + "b" * 500, question="[red]no colour")
    assert r"\[red]no colour" in said
    assert "a" * 300 + " … " + "b" * 300 in said
    assert "MIDDLE" not in said
