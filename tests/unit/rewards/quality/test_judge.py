"""Grades by a served model, over a real HTTP connection."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from configs.schema.quality import QualityJudgeConfig
from rewards.judges.questions import NoReply
from rewards.quality.chains import GradedChain, Quality
from rewards.quality.judge import grade_by_judge
from rl.data.records import Problem
from tests.openai_server import Fault, Server, openai_server
from tests.unit.step_samples import png


def _by_length(body: dict[str, Any]) -> str:
    """Grades a solution by its number of words; wrong ones say so."""
    content = body["messages"][1]["content"]
    said = content if isinstance(content, str) else content[-1]["text"]
    words = said.partition("<solution>\n")[2].partition("\n</solution>")[0].split()
    reply = {"reason": "counted", "agrees": "wrong" not in words, "grade": min(5, len(words))}
    return json.dumps(reply)


@pytest.fixture
def server() -> Iterator[Server]:
    with openai_server(_by_length) as state:
        yield state


def chain(text: str, **fields: Any) -> GradedChain:
    return GradedChain(Problem("p", "2+2?", ("4", "four"), **fields), text)


def grades(server: Server, cache: Path, *chains: GradedChain, **fields: Any) -> list[Quality]:
    config = QualityJudgeConfig(
        endpoint=server.url,
        model="m",
        requests_per_s=1000.0,
        cache=str(cache / "replies.sqlite"),
        **fields,
    )
    return list(grade_by_judge(chains, config))


def test_a_chain_is_graded_by_the_rubric_beside_question_and_right_answer(
    server: Server, tmp_path: Path
) -> None:
    (quality,) = grades(server, tmp_path, chain("one two three"))
    assert quality == Quality(3, "judge: counted")
    (asked,) = server.asked
    assert "whole number" in asked["messages"][0]["content"]
    assert asked["messages"][1]["content"] == (
        "<question>\n2+2?\n</question>\n<reference>\n4 or four\n</reference>\n"
        "<solution>\none two three\n</solution>"
    )
    schema = asked["response_format"]["json_schema"]["schema"]
    assert schema["required"] == ["reason", "agrees", "grade"]
    assert schema["properties"]["grade"]["enum"] == [0, 1, 2, 3, 4, 5]


def test_images_go_along_unless_the_recipe_says_otherwise(server: Server, tmp_path: Path) -> None:
    seen = chain("one <image>", images=(png(4, 4),))
    grades(server, tmp_path, seen)
    kinds = [part["type"] for part in server.asked[0]["messages"][1]["content"]]
    assert kinds == ["image_url", "text", "text"]
    grades(server, tmp_path, seen, images=False)
    assert isinstance(server.asked[1]["messages"][1]["content"], str)


def test_a_wrong_answer_gets_one_at_most_whatever_grade_is_said(
    server: Server, tmp_path: Path
) -> None:
    (quality,) = grades(server, tmp_path, chain("long and fluent but wrong"))
    assert quality.grade == 1


def test_many_are_asked_at_a_time_in_order_and_a_rerun_asks_nobody(
    server: Server, tmp_path: Path
) -> None:
    server.delay_s = 0.05
    chains = [chain(" ".join(f"{n}w{i}" for i in range(1 + n % 5))) for n in range(24)]
    for _ in range(2):
        found = grades(server, tmp_path, *chains, parallel=6)
        assert [quality.grade for quality in found] == [1 + n % 5 for n in range(24)]
    assert server.most_under_way == 6
    assert len(server.asked) == len(chains)


@pytest.mark.parametrize("fault", [429, 503, "no JSON", "no choices", "drop", "drop halfway"])
def test_what_may_pass_is_asked_again(server: Server, fault: Fault, tmp_path: Path) -> None:
    server.failures = [fault]
    (quality,) = grades(server, tmp_path, chain("one two"))
    assert quality.grade == 2 and len(server.asked) == 2


def test_a_chain_that_the_judge_cannot_grade_leaves_the_others_their_grades(
    server: Server, tmp_path: Path
) -> None:
    babble = json.dumps({"reason": "fine", "agrees": True, "grade": 7})
    server.reply = lambda body: babble if "odd" in str(body) else _by_length(body)
    found = grades(server, tmp_path, chain("odd"), chain("one two"), attempts=2, parallel=1)
    assert [quality.grade for quality in found] == [None, 2]
    assert "no reply that fits in 2 tries" in found[0].reason
    server.failures = [400]
    (refused,) = grades(server, tmp_path, chain("too long for it"))
    assert refused.grade is None and "refuses the question" in refused.reason
    (long,) = grades(server, tmp_path, chain("x" * 11), max_chars=10)
    assert long == Quality(None, "11 characters, over judge.max_chars=10")
    (blind,) = grades(server, tmp_path, chain("one", images=(b"no image",)))
    assert blind.grade is None and blind.reason.startswith("image: ")


def test_a_reply_that_is_cut_off_is_none(server: Server, tmp_path: Path) -> None:
    server.finish_reason = "length"
    (quality,) = grades(server, tmp_path, chain("one"), attempts=1, max_tokens=9)
    assert quality.grade is None and "longer than max_tokens=9" in quality.reason


def test_a_server_that_refuses_all_ends_the_grading_and_what_was_paid_for_stays(
    server: Server, tmp_path: Path
) -> None:
    chains = [chain("one"), chain("one two")]
    server.failures = [200, 401]
    with pytest.raises(NoReply, match=r"model 'm'.*401.*replies so far are kept"):
        grades(server, tmp_path, *chains, parallel=1)
    assert [quality.grade for quality in grades(server, tmp_path, *chains)] == [1, 2]
    assert len(server.asked) == 3
