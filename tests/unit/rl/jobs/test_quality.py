"""One entry to all kinds of grades, and its limit on chains without one."""

import json
from pathlib import Path

import pytest

from configs.schema.quality import QualityConfig
from configs.schema.reward import RewardConfig
from rewards.quality.chains import GradedChain
from rl.console.errors import UserError
from rl.data.records import Problem
from rl.jobs.quality import TooManyUngraded, quality_of
from tests.openai_server import openai_server

REWARD = RewardConfig()
RIGHT = GradedChain(Problem("p", "2+2?", ("4",)), "<think>2 + 2 = 4</think>\\boxed{4}")
BAD_ROW = GradedChain(Problem("q", "?", ("",)), "\\boxed{4}")


def test_rules_grade_while_chains_come() -> None:
    read: list[int] = []

    def endless() -> object:
        while True:
            read.append(1)
            yield RIGHT

    grades = quality_of(endless(), QualityConfig(), REWARD)  # pyright: ignore
    assert [next(grades).grade for _ in range(3)] == [5, 5, 5]
    assert len(read) < 200
    grades.close()  # pyright: ignore


def test_a_judge_grades_where_the_recipe_says_so(tmp_path: Path) -> None:
    reply = json.dumps({"reason": "fine", "agrees": True, "grade": 4})
    with openai_server(lambda body: reply) as server:
        section = {"endpoint": server.url, "model": "m", "cache": str(tmp_path / "replies")}
        config = QualityConfig.model_validate({"kind": "judge", "judge": section})
        assert [q.grade for q in quality_of([RIGHT, RIGHT], config, REWARD)] == [4, 4]


def test_too_many_chains_without_a_grade_end_the_grading_with_what_is_wrong() -> None:
    few = quality_of([BAD_ROW, RIGHT], QualityConfig(max_ungraded_share=0.5), REWARD)
    assert [quality.grade for quality in few] == [None, 5]
    with pytest.raises(TooManyUngraded, match=r"1 of 2 chains got no grade.*bad_gold: problem 'q'"):
        list(quality_of([BAD_ROW, RIGHT], QualityConfig(max_ungraded_share=0.4), REWARD))


def test_an_outage_is_noticed_after_200_chains_and_not_at_the_end() -> None:
    grades = quality_of([BAD_ROW] * 1000, QualityConfig(), REWARD)
    taken = 0
    with pytest.raises(TooManyUngraded, match="200 of 200"):
        for _ in grades:
            taken += 1
    assert taken == 199


def test_a_reward_model_that_is_not_there_is_told_before_anything_starts() -> None:
    config = QualityConfig.model_validate({"kind": "value_head", "value_head": {"path": "./none"}})
    with pytest.raises(UserError, match="there is no folder"):
        quality_of([RIGHT], config, REWARD)
