"""The judge against a real HTTP server on this machine."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from actors.scoring.reward_worker import RewardWorker
from configs.loading.explain import explain
from configs.schema.reward import JudgeConfig, RewardConfig, ThinkingConfig
from rewards.completion import Completion
from rewards.judges.openai_judge import Judge
from rl.data.records import Problem
from tests.openai_server import Fault, Server, openai_server

PROBLEM = Problem("row", "Which city?", ("the capital of France",))


def _opinion(body: dict[str, Any]) -> str:
    """Agrees when the answer says Paris."""
    agrees = "Paris" in body["messages"][1]["content"].partition("<answer>")[2]
    return json.dumps({"reason": "same city", "agrees": agrees})


@pytest.fixture
def server() -> Iterator[Server]:
    with openai_server(_opinion) as state:
        yield state


def judge(server: Server, **fields: Any) -> Judge:
    config = JudgeConfig(endpoint=server.url, model="m", requests_per_s=1000.0, **fields)
    return Judge(config, ThinkingConfig())


def said(text: str) -> Completion:
    return Completion(text, 10, 100, "stop")


def test_agreement_is_correct_and_asked_for_in_a_schema(server: Server) -> None:
    verdict = judge(server).verdict(PROBLEM, said("<think>France</think>\\boxed{Paris}"))
    assert (verdict.score, verdict.cause, verdict.detail) == (1.0, "correct", "judge: same city")
    (asked,) = server.asked
    assert asked["response_format"]["json_schema"]["schema"]["required"] == ["reason", "agrees"]
    assert "the capital of France" in asked["messages"][1]["content"]
    assert "<think>" not in asked["messages"][1]["content"]
    assert judge(server).verdict(PROBLEM, said("\\boxed{Rome}")).cause == "wrong"


def test_without_an_answer_nobody_is_asked(server: Server) -> None:
    assert judge(server).verdict(PROBLEM, said("I wonder")).cause == "no_answer"
    assert not server.asked


def test_a_busy_or_babbling_server_is_asked_again(server: Server) -> None:
    prose = ["They agree, I think."]
    server.reply = lambda body: prose.pop() if prose else _opinion(body)
    server.failures = [429, 500]
    assert judge(server).verdict(PROBLEM, said("\\boxed{Paris}")).cause == "correct"
    assert len(server.asked) == 4


@pytest.mark.parametrize("fault", ["no JSON", "no choices", "drop", "drop halfway"])
def test_a_reply_that_breaks_off_or_is_none_is_asked_for_again(
    server: Server, fault: Fault
) -> None:
    server.failures = [fault]
    assert judge(server).verdict(PROBLEM, said("\\boxed{Paris}")).cause == "correct"
    assert len(server.asked) == 2


def test_a_judge_out_of_reach_says_nothing_of_the_policy(server: Server) -> None:
    server.failures = [500, 500]
    verdict = judge(server, attempts=2).verdict(PROBLEM, said("\\boxed{Paris}"))
    assert verdict.cause == "crash" and "2 tries" in verdict.detail
    server.failures = [401]
    assert judge(server).verdict(PROBLEM, said("\\boxed{Paris}")).cause == "crash"
    assert len(server.asked) == 3  # a refused key is not worth asking again


def test_a_key_is_sent_and_written_nowhere(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THE_JUDGE", "sk-of-the-judge")
    own = judge(server, api_key_variable="OF_THE_JUDGE", cache=str(tmp_path / "replies.sqlite"))
    server.failures = [401]
    refused = own.verdict(PROBLEM, said("\\boxed{Paris}"))
    assert own.verdict(PROBLEM, said("\\boxed{Paris}")).cause == "correct"
    assert "sk-of-the-judge" not in refused.detail
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert written and b"sk-of-the-judge" not in written


def test_a_key_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValidationError, match="api_key_variable") as refused:
        JudgeConfig(endpoint="https://me:sk-secret@judge.example/v1", model="m")
    assert "sk-secret" not in explained(refused.value)


def explained(error: ValidationError) -> str:
    """What a person is told of a recipe's fault."""
    return " ".join(explain(error, {}, [], lambda name: "command line"))


def test_replies_are_kept_on_disk(server: Server, tmp_path: Path) -> None:
    cache = str(tmp_path / "cache" / "replies.sqlite")
    for _ in range(3):
        verdict = judge(server, cache=cache).verdict(PROBLEM, said("\\boxed{Paris}"))
        assert verdict.cause == "correct"
    assert len(server.asked) == 1


def test_requests_keep_their_pace(server: Server) -> None:
    config = JudgeConfig(endpoint=server.url, model="m", requests_per_s=20.0)
    paced = Judge(config, ThinkingConfig())
    began = time.monotonic()
    for n in range(5):
        paced.verdict(PROBLEM, said(f"\\boxed{{Paris {n}}}"))
    assert time.monotonic() - began >= 4 / 20


def test_the_judge_overrules_the_rule_only_where_it_said_wrong(server: Server) -> None:
    opinion = JudgeConfig(endpoint=server.url, model="m", second_opinion_on=("math",))
    worker = RewardWorker(RewardConfig(weights="R1V3", judge=opinion))  # pyright: ignore
    texts = ["\\boxed{the capital of France}", "\\boxed{Paris}", "\\boxed{Rome}", "none"]
    completions = [said(f"<think>a</think>{text}") for text in texts]
    scores = asyncio.run(worker.score(PROBLEM, completions))
    worker.close()
    assert [score.reward for score in scores] == pytest.approx([1.0, 1.0, 0.2, 0.2])
    assert scores[1].verdicts["math"].detail == "judge: same city"
    assert len(server.asked) == 2
