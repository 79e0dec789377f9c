"""A served model is asked as an engine would be: over a real HTTP connection."""

import asyncio
import base64
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from actors.rollout.endpoint_worker import UNKNOWN_TOKEN, EndpointWorker, NoAnswer
from configs.jobs.evaluate import AnsweringModel
from configs.schema.data import PromptConfig
from configs.schema.reward import ThinkingConfig
from rl.data.records import Answer, Group, Problem, SamplingRequest
from tests.openai_server import Fault, Server, openai_server
from tests.unit.step_samples import png

PROBLEM = Problem("p", "2+2?", ("4",))
REQUEST = SamplingRequest(1, 0.6, 500, seed=7, top_p=0.95)


@pytest.fixture
def server() -> Iterator[Server]:
    with openai_server(lambda body: "It is \\boxed{4} now") as state:
        yield state


def worker(
    server: Server, prompt: PromptConfig | None = None, opens: bool = False, **fields: Any
) -> EndpointWorker:
    own = {"endpoint": server.url, "requests_per_s": 1000.0, "timeout_s": 10.0} | fields
    policy = AnsweringModel.model_validate({"path": "some/model", "server": own})
    return EndpointWorker(policy, prompt or PromptConfig(), ThinkingConfig(prompt_opens=opens))


def asked(worker: EndpointWorker, problem: Problem = PROBLEM, **changes: Any) -> Group:
    request = {name: getattr(REQUEST, name) for name in SamplingRequest.__slots__} | changes
    return asyncio.run(worker.sample(problem, SamplingRequest(**request)))


def test_an_answer_comes_with_its_text_and_its_number_of_tokens(server: Server) -> None:
    group = asked(worker(server))
    text = "It is \\boxed{4} now"
    assert group.answers == (Answer((UNKNOWN_TOKEN,) * 4, (), text, "stop", 0),)
    (body,) = server.asked
    assert body["model"] == "some/model" and body["messages"] == [
        {"role": "user", "content": "2+2?"}
    ]
    named = ("temperature", "top_p", "max_tokens", "seed")
    assert [body[name] for name in named] == [0.6, 0.95, 500, 7]
    assert "repetition_penalty" not in body


def test_several_answers_have_seeds_of_their_own_and_a_penalty_is_sent(server: Server) -> None:
    assert len(asked(worker(server), count=3, repetition_penalty=1.05).answers) == 3
    assert sorted(body["seed"] for body in server.asked) == [7, 8, 9]
    assert {body["repetition_penalty"] for body in server.asked} == {1.05}


def test_what_cuts_and_ends_answers_is_sent_where_it_is_asked_for(server: Server) -> None:
    asked(worker(server), top_k=20, min_p=0.1, stop=("END",))
    asked(worker(server))
    first, second = server.asked
    assert (first["top_k"], first["min_p"], first["stop"]) == (20, 0.1, ["END"])
    assert not {"top_k", "min_p", "stop", "repetition_penalty"} & set(second)


def test_system_message_and_suffix_are_sent(server: Server) -> None:
    asked(worker(server, PromptConfig(system="Be brief.", suffix="Box it.")))
    assert server.asked[0]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "2+2?\nBox it."},
    ]


def test_images_go_as_data_urls_where_the_question_marks_them(
    server: Server, tmp_path: Path
) -> None:
    first, second = png(4, 4), png(5, 5)
    tiff = tmp_path / "third.tiff"
    Image.open(BytesIO(second)).save(tiff)
    problem = Problem("p", "Is <image> like <image>?", ("no",), (first, second, str(tiff)))
    asked(worker(server), problem)
    parts = server.asked[0]["messages"][0]["content"]
    texts = [part.get("text", "image") for part in parts]
    assert texts == ["image", "Is ", "image", " like ", "image", "?"]
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    sent = [base64.b64decode(url.removeprefix("data:image/png;base64,")) for url in urls]
    assert sent[:2] == [first, second]
    assert Image.open(BytesIO(sent[2])).size == (5, 5)  # no server reads TIFF


def test_thoughts_that_come_apart_are_put_into_tags(server: Server) -> None:
    server.reply = lambda body: {"content": "\\boxed{4}", "reasoning_content": "two and two"}
    for opens, start in ((False, "<think>"), (True, "")):
        (answer,) = asked(worker(server, opens=opens)).answers
        assert answer.text == f"{start}two and two</think>\\boxed{{4}}"


def test_an_answer_cut_off_within_its_thoughts_has_no_end_of_thoughts(server: Server) -> None:
    server.reply = lambda body: {"content": None, "reasoning": "two and"}
    server.finish_reason = "length"
    (answer,) = asked(worker(server)).answers
    assert (answer.text, answer.finish_reason) == ("<think>two and", "length")


@pytest.mark.parametrize("fault", [429, 500, 503, "no JSON", "no choices", "drop", "drop halfway"])
def test_what_may_pass_is_asked_again(server: Server, fault: Fault) -> None:
    server.failures = [fault]
    assert asked(worker(server)).answers[0].text == "It is \\boxed{4} now"
    assert len(server.asked) == 2


def test_a_slow_server_is_given_up_after_its_time(server: Server) -> None:
    server.delay_s = 1.0
    with pytest.raises(NoAnswer, match="Timeout"):
        asked(worker(server, timeout_s=0.2, attempts=2))
    assert len(server.asked) == 2


def test_a_refused_key_is_told_at_once_with_what_to_do(server: Server) -> None:
    server.failures = [401]
    with pytest.raises(NoAnswer, match=r"model 'some/model'.*401.*--resume"):
        asked(worker(server))
    assert len(server.asked) == 1


def test_no_more_requests_are_under_way_than_the_recipe_allows(server: Server) -> None:
    server.delay_s = 0.1
    client = worker(server, parallel=3)
    assert len(asked(client, count=9).answers) == 9
    assert server.most_under_way == 3
