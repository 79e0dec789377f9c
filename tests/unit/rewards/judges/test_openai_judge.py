"""The judge against a real HTTP server on this machine."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from actors.scoring.reward_worker import RewardWorker
from configs.schema.reward import JudgeConfig, RewardConfig, ThinkingConfig
from rewards.completion import Completion
from rewards.judges.openai_judge import Judge
from rl.data.records import Problem

PROBLEM = Problem("row", "Which city?", ("the capital of France",))


@dataclass
class Server:
    """An endpoint that agrees when the answer says Paris."""

    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)
    """Statuses to reply with first; 200 replies with prose instead of JSON."""


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.asked.append(body)
            status = state.failures.pop(0) if state.failures else 0
            agrees = "Paris" in body["messages"][1]["content"].partition("<answer>")[2]
            content = json.dumps({"reason": "same city", "agrees": agrees})
            if status == 200:
                content = "They agree, I think."
            reply = {
                "id": "1", "object": "chat.completion", "created": 0, "model": "m",
                "choices": [
                    {
                        "index": 0, "finish_reason": "stop",
                        "message": {"role": "assistant", "content": content},
                    }
                ],
            }  # fmt: skip
            sent = json.dumps(reply).encode()
            self.send_response(status or 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, format: str, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    state.url = f"http://127.0.0.1:{http.server_port}/v1"
    yield state
    http.shutdown()
    http.server_close()


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
    server.failures = [429, 500, 200]
    assert judge(server).verdict(PROBLEM, said("\\boxed{Paris}")).cause == "correct"
    assert len(server.asked) == 4


def test_a_judge_out_of_reach_says_nothing_of_the_policy(server: Server) -> None:
    server.failures = [500, 500]
    verdict = judge(server, attempts=2).verdict(PROBLEM, said("\\boxed{Paris}"))
    assert verdict.cause == "crash" and "2 tries" in verdict.detail
    server.failures = [401]
    assert judge(server).verdict(PROBLEM, said("\\boxed{Paris}")).cause == "crash"
    assert len(server.asked) == 3  # a refused key is not worth asking again


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
