"""What is refused before a run starts, and what stops one."""

from hashlib import sha256
from pathlib import Path

import pytest
from pydantic import ValidationError

from configs.schema.reward import JudgeConfig, RewardConfig
from rewards.functions.custom import as_verdict, load_custom
from rewards.trial import check_gold, try_rewards
from rl.algorithms.guards import TooManyUnscored, UnscoredGuard
from rl.data.records import Answer, Group, Problem, Score, ScoredGroup, Verdict
from rl.data.row_values import BadRow
from tests.repository import ROOT

SAMPLES = ROOT / "tests/unit/rewards/reward_samples.py"
PROBLEM = Problem("row 3", "what?", ("8",))


def config(name: str) -> RewardConfig:
    return RewardConfig(
        weights={"mine": 1.0},
        accuracy="mine",
        custom={"mine": f"{SAMPLES}:{name}"},
        deadline_s=1.0,
    )


def test_a_good_recipe_passes_and_shows_its_verdicts() -> None:
    recipe = RewardConfig(
        weights={"math": 0.8, "format": 0.1, "mine": 0.1}, custom={"mine": f"{SAMPLES}:patient"}
    )
    said = try_rewards(recipe, PROBLEM)
    assert {name: verdict.cause for name, verdict in said.items()} == {
        "math": "correct",
        "format": "correct",
        "mine": "correct",
    }


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("brevty", "did you mean brevity"),
        ("raises", "no such column"),
        ("returns_text", "returned '2.0'"),
        ("sleeps", "timeout"),
    ],
)
def test_a_bad_reward_of_the_users_own_is_refused_on_one_row(function: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        try_rewards(config(function), PROBLEM)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("brevity", "names no function"),
        ("nowhere.module:reward", "cannot import 'nowhere.module'"),
        ("nowhere.py:reward", "there is no file"),
        ("json:reward", "no function 'reward'"),
    ],
)
def test_a_custom_reward_that_is_not_there_is_named(where: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        load_custom(where)


def test_a_row_without_what_a_reward_needs_is_named() -> None:
    with pytest.raises(ValueError, match=r"'choice' cannot score problem 'row 3': bad_gold"):
        try_rewards(RewardConfig(weights={"choice": 1.0}, accuracy="choice"), PROBLEM)


def test_the_reward_in_the_documentation_runs(tmp_path: Path) -> None:
    page = ROOT / "docs" / "rewards.md"
    code = page.read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
    (tmp_path / "my_rewards.py").write_text(code, encoding="utf-8")
    recipe = RewardConfig(
        weights={"math": 0.9, "units": 0.1}, custom={"units": f"{tmp_path}/my_rewards.py:units"}
    )
    row = Problem("row", "how long?", ("8 cm",), fields={"unit": "cm"})
    assert try_rewards(recipe, row)["units"] == Verdict(1.0, "correct")


def test_numbers_and_verdicts_are_taken_and_nothing_else() -> None:
    assert as_verdict(1.0, "f") == Verdict(1.0, "correct")
    assert as_verdict(True, "f") == Verdict(1.0, "correct")
    assert as_verdict(0.25, "f") == Verdict(0.25, "wrong")
    assert as_verdict(-2, "f") == Verdict(-2.0, "wrong")
    assert as_verdict(1.5, "f") == Verdict(1.5, "correct")
    assert as_verdict(Verdict(-0.5, "wrong", "too long"), "f").score == -0.5
    for bad in (float("nan"), float("inf"), "1", None, Verdict(float("nan"), "correct")):
        assert as_verdict(bad, "f").cause == "crash"


def test_what_is_told_as_accuracy_stays_a_share() -> None:
    assert as_verdict(0.25, "f", share=True) == Verdict(0.25, "wrong")
    for bad in (1.5, -0.1, Verdict(2.0, "correct")):
        said = as_verdict(bad, "f", share=True)
        assert said.cause == "crash" and "reward.accuracy" in said.detail


def test_a_judge_without_its_section_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"set judge\.endpoint and judge\.model"):
        RewardConfig(weights={"judge": 1.0}, accuracy="judge")
    asked = JudgeConfig(model="m", second_opinion_on=("mth",))
    with pytest.raises(ValueError, match="no reward 'mth'; did you mean 'math'"):
        try_rewards(RewardConfig(judge=asked), PROBLEM)


def test_the_log_says_which_code_of_the_users_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def half(problem, completion):\n    return 0.5\n")
    config = RewardConfig(weights={"mine": 1.0}, accuracy="mine", custom={"mine": f"{file}:half"})
    try_rewards(config, PROBLEM)
    digest = sha256(file.read_bytes()).hexdigest()[:16]
    said = capsys.readouterr().out
    assert f"reward mine runs code of yours: {file}:half ({file}, sha256 {digest})" in said


def test_a_custom_reward_cannot_take_a_built_in_name() -> None:
    with pytest.raises(ValueError, match="'math' has a built-in"):
        try_rewards(RewardConfig(custom={"math": f"{SAMPLES}:brevity"}), PROBLEM)


def group(name: str, bad: int, good: int) -> ScoredGroup:
    answer = Answer((1,), (0.0,), "x", "stop", 0)
    broken = Score({"math": Verdict(0.0, "bad_gold", f"gold of {name}", gold_side=True)}, None)
    whole = Score({"math": Verdict(1.0, "correct")}, 1.0)
    problem = Problem(name, "", ("8",))
    return ScoredGroup(
        Group(problem, (1,), (answer,) * (bad + good)), (broken,) * bad + (whole,) * good
    )


def test_a_run_stops_when_too_many_answers_have_no_reward_and_shows_the_worst() -> None:
    guard = UnscoredGuard(max_share=0.1)
    guard.check([group("fine", 0, 170), group("b", 20, 0)])  # 20 of 190: too few to judge by
    with pytest.raises(TooManyUnscored, match=r"50 of 220 answers \(22\.7%\)") as stopped:
        guard.check([group("worst", 30, 0)])
    assert (guard.answers, guard.without_reward) == (220, 50)
    lines = str(stopped.value).splitlines()
    assert "30 times bad_gold by math on problem 'worst': gold of worst" in lines[1]
    assert "20 times" in lines[2]


def test_a_share_at_the_limit_is_within_it() -> None:
    groups = [group("a", 30, 270)]
    UnscoredGuard(max_share=0.1).check(groups)
    with pytest.raises(TooManyUnscored):
        UnscoredGuard(max_share=0.09).check(groups)


@pytest.mark.parametrize(
    ("reward", "gold", "words"),
    [
        ("math", "7" * 700, "over 600 of any answer"),
        ("math", "???", "neither a number nor a word"),
        ("numeric", "a dozen", "is no number"),
    ],
)
def test_a_gold_that_no_answer_can_equal_rejects_its_row(
    reward: str, gold: str, words: str
) -> None:
    recipe = RewardConfig(weights={reward: 1.0}, accuracy=reward)
    check_gold(recipe, PROBLEM)
    with pytest.raises(BadRow, match=words) as rejected:
        check_gold(recipe, Problem("row", "what?", (gold,)))
    assert rejected.value.fault == "bad_gold"
