"""Questions scored by a served model, over a real HTTP connection, journaled and cached."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from configs.jobs.distill import QueryScoringConfig, ScoringJudgeConfig
from configs.schema.data import DataConfig
from rewards.judges.questions import NoReply
from rl.console.errors import UserError
from rl.data.problems import ProblemSet
from rl.distillation.chain_length import QueryScores
from rl.distillation.judge_scoring import judge_problems, judge_scores
from rl.distillation.passes import ProblemPasses
from tests.openai_server import Fault, Server, openai_server
from tests.unit.step_samples import png

OF_TEXT = {"coherence": 5, "knowledge": 2, "inference": 3, "needs_image": 4}
PATTERNS = ("why_or_how", "spatial", "domain_terms", "what_or_where", "names_object", "text_alone")
OF_IMAGES = {"relevance": 5, **dict.fromkeys(PATTERNS, False), "spatial": True}


def _judge(body: dict[str, Any]) -> str:
    asks = body["response_format"]["json_schema"]["schema"]["required"]
    return json.dumps(OF_IMAGES if "relevance" in asks else OF_TEXT)


@pytest.fixture
def server() -> Iterator[Server]:
    with openai_server(_judge) as state:
        yield state


@pytest.fixture
def passes(tmp_path: Path) -> ProblemPasses:
    """Four problems; those of even number have an image."""
    (tmp_path / "a.png").write_bytes(png(8, 8))
    rows = [
        {
            "id": f"row {n}",
            "question": f"how many, {n}?",
            "answer": "1",
            "images": ["a.png"][n % 2 :],
        }
        for n in range(4)
    ]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = {"question_column": "question", "answer_column": "answer", "id_column": "id"}
    problems = ProblemSet.open(
        DataConfig.model_validate({"source": str(data), "image_column": "images", **columns}),
        measure=lambda problem: 1,
        max_tokens=9,
        rejected=tmp_path / "rejected.jsonl",
    )
    return ProblemPasses(problems, tmp_path / "journal", rows_per_shard=3, at_a_time=8)


CLARITY_N = np.array([0.5, np.nan, 1.0, np.nan])


def config(server: Server, cache: Path, **fields: Any) -> ScoringJudgeConfig:
    own = {"endpoint": server.url, "model": "m", "requests_per_s": 1000.0} | fields
    return ScoringJudgeConfig.model_validate(own | {"cache": str(cache / "replies.sqlite")})


def test_scores_are_means_of_grades_and_patterns(
    server: Server, passes: ProblemPasses, tmp_path: Path
) -> None:
    scores = judge_scores(passes, config(server, tmp_path), CLARITY_N)
    # (1 + 1/4 + 1/2) / 3; needs_image 3/4 and relevance 1 are 7/8 together, beside the clarity;
    # one of three high patterns and no low one: (1/3 + 1/2) / 1.5.
    text, integration = 1.75 / 3, (1 / 3 + 0.5) / 1.5
    assert [scores[n].vision for n in range(4)] == pytest.approx([0.6875, 0, 0.9375, 0])
    assert [one.text for one in scores] == pytest.approx([text] * 4)
    assert [one.integration for one in scores] == pytest.approx([integration, 0, integration, 0])


def test_the_text_is_judged_without_its_images_and_then_the_two_together(
    server: Server, passes: ProblemPasses, tmp_path: Path
) -> None:
    judge_problems(passes, config(server, tmp_path, parallel=1))
    contents = [body["messages"][1]["content"] for body in server.asked]
    assert len(contents) == 6
    assert contents[0] == "<question>\nhow many, 0?\n</question>"
    assert [part["type"] for part in contents[1]] == ["image_url", "text"]
    assert [isinstance(content, str) for content in contents] == [True, False, True] * 2


def test_low_patterns_lower_the_integration(
    server: Server, passes: ProblemPasses, tmp_path: Path
) -> None:
    low = dict.fromkeys(PATTERNS[3:], True) | {"spatial": False}
    server.reply = lambda body: json.dumps(
        {**json.loads(_judge(body)), **low} if "relevance" in _judge(body) else OF_TEXT
    )
    scores = judge_scores(passes, config(server, tmp_path), CLARITY_N)
    assert scores[0].integration == 0.0  # 0 - 1/2 + 1/2


def test_what_was_judged_is_not_asked_again_by_this_run_or_another(
    server: Server, passes: ProblemPasses, tmp_path: Path
) -> None:
    first = judge_scores(passes, config(server, tmp_path), CLARITY_N)
    asked = len(server.asked)
    assert judge_scores(passes, config(server, tmp_path, model="other"), CLARITY_N) == first
    afresh = ProblemPasses(passes.problems, tmp_path / "other", 3, 8)
    assert judge_scores(afresh, config(server, tmp_path), CLARITY_N) == first
    assert len(server.asked) == asked


def test_an_outage_ends_the_pass_and_the_rest_is_asked_when_it_goes_on(
    server: Server, passes: ProblemPasses, tmp_path: Path
) -> None:
    server.failures = [200, 200, 200, 401]
    with pytest.raises(NoReply, match="401"):
        judge_problems(passes, config(server, tmp_path, parallel=1))
    assert passes.journal("judged").done >= {0, 1}
    judge_problems(passes, config(server, tmp_path))
    assert passes.journal("judged").done == {0, 1, 2, 3}
    whole = sorted(json.dumps(body["messages"]) for body in server.asked)
    assert len(whole) == 7 and len(set(whole)) == 6  # only the refused one twice


@pytest.mark.parametrize("fault", [429, 500, "no JSON", "no choices", "drop", "drop halfway"])
def test_what_may_pass_is_asked_again(
    server: Server, passes: ProblemPasses, tmp_path: Path, fault: Fault
) -> None:
    server.failures = [fault]
    judge_problems(passes, config(server, tmp_path))
    assert len(server.asked) == 7


def test_many_are_under_way_at_a_time(
    server: Server, passes: ProblemPasses, tmp_path: Path
) -> None:
    server.delay_s = 0.1
    judge_problems(passes, config(server, tmp_path, parallel=3))
    assert server.most_under_way == 3


def test_a_question_without_judgement_counts_as_the_mean_of_the_others(
    server: Server, passes: ProblemPasses, tmp_path: Path
) -> None:
    out_of_range = json.dumps(OF_TEXT | {"coherence": 6})
    server.reply = lambda body: out_of_range if "many, 1" in str(body["messages"]) else _judge(body)
    some = config(server, tmp_path, attempts=1, max_unjudged_share=0.25)
    scores = judge_scores(passes, some, CLARITY_N)
    others = [scores[n] for n in (0, 2, 3)]
    expected = [np.mean([getattr(one, name) for one in others]) for name in QueryScores.__slots__]
    found = [getattr(scores[1], name) for name in QueryScores.__slots__]
    assert found == pytest.approx(expected)
    few = config(server, tmp_path, attempts=1, max_unjudged_share=0.2)
    with pytest.raises(UserError, match=r"1 of 4 questions got no judgement.*no reply that fits"):
        judge_scores(passes, few, CLARITY_N)


def test_who_scores_is_said_whole() -> None:
    with pytest.raises(ValidationError, match="by=judge needs a section judge"):
        QueryScoringConfig.model_validate({"by": "judge"})
    with pytest.raises(ValidationError, match="judge is set, and by=self"):
        QueryScoringConfig.model_validate({"judge": {"model": "m"}})
    with pytest.raises(ValidationError, match="samples is about answers of the policy"):
        QueryScoringConfig.model_validate({"by": "judge", "judge": {"model": "m"}, "samples": 9})
