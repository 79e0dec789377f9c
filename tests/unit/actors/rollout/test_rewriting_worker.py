"""Wrong chains rewritten by a served teacher, over a real HTTP connection."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from actors.rollout.endpoint_worker import NoAnswer
from actors.rollout.rewriting_worker import RewritingWorker
from configs.jobs.distill import TeacherConfig
from configs.schema.data import PromptConfig
from configs.schema.reward import ThinkingConfig
from rl.data.records import Group, Problem, SamplingRequest
from rl.distillation.rewriting import ATTEMPT, latex_again
from tests.openai_server import Server, openai_server
from tests.unit.step_samples import png

WRONG = Problem(
    "p", "<image>2+2?\nThe right answer is 4.", ("4",), (png(4, 4),), {ATTEMPT: "2+2 is 5"}
)
CHAIN = {"reasoning": "two and two", "final": "It is \\boxed{4}."}


@pytest.fixture
def server() -> Iterator[Server]:
    with openai_server(lambda body: json.dumps(CHAIN)) as state:
        yield state


def rewritten(
    server: Server, cache: Path, problem: Problem = WRONG, opens: bool = False, **fields: Any
) -> Group:
    own: dict[str, Any] = {"endpoint": server.url, "requests_per_s": 1000.0, "timeout_s": 10.0}
    own |= {"cache": str(cache / "replies.sqlite")} | fields
    teacher = TeacherConfig.model_validate({"path": "some/model", "server": own})
    thinking = ThinkingConfig(prompt_opens=opens)
    worker = RewritingWorker(teacher, PromptConfig(suffix="Box it."), thinking)
    request = SamplingRequest(2, 0.7, 500, seed=7)
    return asyncio.run(worker.sample(problem, request))


def test_a_chain_is_rewritten_beside_question_image_and_attempt(
    server: Server, tmp_path: Path
) -> None:
    group = rewritten(server, tmp_path)
    assert [answer.text for answer in group.answers] == [
        "<think>two and two</think>It is \\boxed{4}."
    ] * 2
    assert {len(answer.token_ids) for answer in group.answers} == {len(json.dumps(CHAIN).split())}
    body = min(server.asked, key=lambda body: body["seed"])
    assert (body["seed"], body["temperature"], body["max_tokens"]) == (7, 0.7, 500)
    parts = body["messages"][1]["content"]
    assert [part.get("text", "image") for part in parts] == [
        "<question>\n",
        "image",
        "2+2?\nThe right answer is 4.\nBox it.\n</question>\n",
        "<attempt>\n2+2 is 5\n</attempt>",
    ]


def test_tags_are_put_by_us_and_left_out_where_the_prompt_has_them(
    server: Server, tmp_path: Path
) -> None:
    server.reply = lambda body: json.dumps(CHAIN | {"reasoning": "<think>two</think>"})
    texts = {answer.text for answer in rewritten(server, tmp_path, opens=True).answers}
    assert texts == {"two</think>It is \\boxed{4}."}


def test_a_rerun_pays_nothing(server: Server, tmp_path: Path) -> None:
    first = rewritten(server, tmp_path)
    assert rewritten(server, tmp_path) == first
    assert len(server.asked) == 2


def test_a_chain_that_is_not_written_is_empty_and_an_outage_ends_the_run(
    server: Server, tmp_path: Path
) -> None:
    server.reply = lambda body: "I would rather not."
    group = rewritten(server, tmp_path, attempts=1)
    assert [answer.text for answer in group.answers] == ["", ""]
    server.failures = [401, 401]
    with pytest.raises(NoAnswer, match=r"401.*--resume"):
        rewritten(server, tmp_path)


def test_settings_of_engines_are_refused_where_a_server_answers() -> None:
    with pytest.raises(ValidationError, match="dtype is about engines of our own"):
        TeacherConfig.model_validate({"path": "m", "server": {}, "dtype": "float32"})
    assert TeacherConfig.model_validate({"path": "m", "server": {}}).provenance == "judge"
    assert TeacherConfig.model_validate({"path": "m", "dtype": "float32"}).provenance == "teacher"


def test_a_backslash_that_json_took_for_an_escape_is_put_back() -> None:
    said = json.loads('"\\boxed{\\frac{1}{2}} \\times 3 \\right)\\tand\\nso"')
    assert latex_again(said) == "\\boxed{\\frac{1}{2}} \\times 3 \\right)\tand\nso"
