"""All chains of a distillation graded: by rules as a map over its files, by a judge from here."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from configs.schema.data import PromptConfig
from configs.schema.quality import QualityConfig
from configs.schema.reward import RewardConfig
from rl.data.records import Problem
from rl.distillation.shards import Chain, write_shard
from rl.jobs.quality import TooManyUngraded
from rl.stages.chosen import QUALITY, Grades, choose
from rl.stages.grading import grade_chains
from tests.openai_server import openai_server
from tests.unit.step_samples import png

pytestmark = pytest.mark.ray

REWARD = RewardConfig()
SCORES = {"vision": 0.5, "text": 0.5, "integration": 0.5}


@pytest.fixture
def chains(tmp_path: Path) -> Path:
    """Two shards of chains whose answers are right: 5, 4 (a wrong step) and 2 (no step)."""
    texts = {
        "a": ("policy", "<think>2 + 2 = 4</think>\\boxed{4}"),
        "b": ("policy", "<think>1 + 1 = 3, 2 + 2 = 4</think>\\boxed{4}"),
        "c": ("teacher", "<think>four</think>\\boxed{4}"),
    }
    rows = [
        (Problem(name, "2+2?", ("4",), (png(4, 4),)), Chain(text, by, 9, 1.0, SCORES))
        for name, (by, text) in texts.items()
    ]
    folder = tmp_path / "distill"
    write_shard(folder, 0, rows[:2], PromptConfig())
    write_shard(folder, 1, rows[2:], PromptConfig())
    return folder


def graded(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(folder).to_pylist()


def test_rules_grade_every_chain_of_every_shard(cluster: None, chains: Path) -> None:
    out = chains.parent / QUALITY
    grade_chains(chains, out, QualityConfig(), REWARD)
    rows = graded(out)
    assert [(row["id"], row["quality"], row["failed"]) for row in rows] == [
        ("a", 5, False),
        ("b", 4, False),
        ("c", 2, True),
    ]
    assert "1 + 1 = 3 does not hold (0)" in rows[1]["reason"]


def test_where_the_prompt_opens_the_thoughts_a_chat_has_the_tag_and_an_answer_has_none(
    cluster: None, chains: Path
) -> None:
    reward = RewardConfig.model_validate({"thinking": {"prompt_opens": True}})
    grade_chains(chains, chains.parent / QUALITY, QualityConfig(), reward)
    assert [row["quality"] for row in graded(chains.parent / QUALITY)] == [5, 4, 2]


def test_a_judge_grades_with_images_and_an_ungraded_chain_is_never_good(chains: Path) -> None:
    def reply(body: dict[str, Any]) -> str:
        image, question, solution = body["messages"][1]["content"]
        assert (image["type"], "2+2?" in question["text"]) == ("image_url", True)
        said = {"reason": "so it is", "agrees": True, "grade": 5}
        return "I cannot say." if "four" in solution["text"] else json.dumps(said)

    out = chains.parent / QUALITY
    with openai_server(reply) as server:
        section = {"endpoint": server.url, "model": "m", "cache": str(chains.parent / "replies")}
        judge: dict[str, Any] = {"kind": "judge", "judge": section | {"attempts": 1}}
        with pytest.raises(TooManyUngraded, match="1 of 3 chains"):
            grade_chains(chains, out, QualityConfig.model_validate(judge), REWARD)
        assert not out.exists()
        config = QualityConfig.model_validate(judge | {"max_ungraded_share": 0.5})
        grade_chains(chains, out, config, REWARD)
    assert len(server.asked) == 4  # only the one without a reply was asked again
    assert [row["quality"] for row in graded(out)] == [5, 5, None]
    figures = choose(Grades.read(chains.parent), 5, chains.parent, None)
    assert {name: figures[name] for name in ("ungraded", "good", "failed", "chosen")} == {
        "ungraded": 1.0,
        "good": 2.0,
        "failed": 1.0,
        "chosen": 3.0,
    }
    assert (figures["quality_5"], figures["quality_0"], figures["quality_mean"]) == (2.0, 0.0, 5.0)
