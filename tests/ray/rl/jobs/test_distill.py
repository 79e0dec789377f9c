"""Distillation whose questions a judge scores and whose wrong chains it rewrites.

The policy's answers are told by the test; judge, reward workers and all passes are the real ones.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from configs.jobs.distill import DistillRecipe
from rl.console.errors import UserError
from rl.data.records import Answer, Group, Problem, SamplingRequest, Score, ScoredGroup, Verdict
from rl.jobs.distill import Distillation
from rl.storage.jsonl import read_lines
from tests.openai_server import Server, openai_server
from tests.unit.step_samples import png

pytestmark = pytest.mark.ray

QUESTIONS = {"easy": "1", "wrong": "2", "stubborn": "3", "silent": "4"}
OF_TEXT = {"coherence": 5, "knowledge": 1, "inference": 1, "needs_image": 5}
PATTERNS = ("why_or_how", "spatial", "domain_terms", "what_or_where", "names_object", "text_alone")
OF_IMAGES = {"relevance": 5, **dict.fromkeys(PATTERNS, False)}


def _judge(body: dict[str, Any]) -> str:
    """Judges every question alike; mends `wrong`, fails at `stubborn`, says nothing to `silent`."""
    asks = body["response_format"]["json_schema"]["schema"]["required"]
    said = str(body["messages"][1]["content"])
    if "reasoning" not in asks:
        return json.dumps(OF_IMAGES if "relevance" in asks else OF_TEXT)
    assert "a thought of easy" not in said
    if "silent" in said:
        return "no"
    answer = "2" if "wrong" in said else "7"
    return json.dumps({"reasoning": "thought anew", "final": f"It is \\boxed{{{answer}}}."})


class Told:
    """The policy: right about the easy one only."""

    def __init__(self) -> None:
        self.asked: list[SamplingRequest] = []

    def stream(
        self, asked: Iterable[tuple[Problem, SamplingRequest]], *, at_a_time: int
    ) -> Iterator[tuple[int, ScoredGroup]]:
        for place, (problem, request) in enumerate(asked):
            self.asked.append(request)
            right = "easy" in problem.question
            text = f"<think>a thought of {problem.id}</think>\\boxed{{{1 if right else 9}}}"
            answer = Answer((5, 6, 7), (), text, "stop", 0)
            kept = Verdict(1.0, "correct" if right else "wrong")
            score = Score({"math": kept, "format": Verdict(1.0, "correct")}, kept.score)
            yield place, ScoredGroup(Group(problem, (), (answer,)), (score,))


@pytest.fixture
def server() -> Iterator[Server]:
    with openai_server(_judge) as state:
        yield state


@pytest.fixture
def recipe(vlm_folder: Path, server: Server, tmp_path: Path) -> DistillRecipe:
    (tmp_path / "a.png").write_bytes(png(56, 56))
    rows = [
        {"id": name, "problem": f"{name}?", "answer": gold, "images": "a.png"}
        for name, gold in QUESTIONS.items()
    ]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = {
        "endpoint": server.url,
        "requests_per_s": 1000.0,
        "attempts": 1,
        "cache": str(tmp_path / "replies.sqlite"),
    }
    columns = {"question_column": "problem", "answer_column": "answer", "id_column": "id"}
    return DistillRecipe.model_validate(
        {
            "name": "judged",
            "policy": {"path": str(vlm_folder), "dtype": "float32"},
            "data": {"source": str(data), "image_column": "images", **columns},
            "rollout": {"max_new_tokens": 64},
            "scoring": {"by": "judge", "judge": asked | {"model": "judge"}},
            "teacher": {"path": "judge", "server": asked, "samples": 1},
            "rows_per_shard": 3,
            "log": {"folder": str(tmp_path / "runs"), "wandb": False},
        }
    )


def distilled(recipe: DistillRecipe, policy: Told, resume: bool = False) -> dict[str, float]:
    work = Distillation.prepare(recipe, resume)
    work.judge()
    work.write_chains(policy)
    work.mend()
    return work.finish()


def chats(recipe: DistillRecipe) -> dict[str, dict[str, Any]]:
    rows = pq.read_table(recipe.run_folder / "chats").to_pylist()
    return {row["id"]: row for row in rows}


def test_wrong_chains_are_rewritten_and_kept_only_where_the_rewards_find_them_right(
    cluster: None, recipe: DistillRecipe, server: Server
) -> None:
    policy = Told()
    summary = distilled(recipe, policy)
    kept = {name: row["provenance"] for name, row in chats(recipe).items()}
    assert kept == {"easy": "policy", "wrong": "judge"}
    assert chats(recipe)["wrong"]["messages"][-1]["content"] == (
        "<think>thought anew</think>It is \\boxed{2}."
    )
    assert [summary[name] for name in ("policy", "judge", "teacher", "dropped")] == [1, 1, 0, 2]
    dropped = {line["id"]: line for line in read_lines(recipe.run_folder / "dropped.jsonl")}
    assert (dropped["stubborn"]["reason"], dropped["stubborn"]["by"]) == ("wrong", "judge")
    assert dropped["silent"]["detail"] == "nothing was written"
    # Text: (1 + 0 + 0) / 3. No sampling gave the scores: the policy wrote one chain a problem.
    assert chats(recipe)["easy"]["text_score"] == pytest.approx(1 / 3)
    assert len(policy.asked) == 4

    asked = len(server.asked)
    assert asked == 2 * 4 + 3
    again = recipe.model_copy(update={"name": "again"})
    distilled(again, Told())
    assert chats(again).keys() == {"easy", "wrong"}
    assert len(server.asked) == asked + 1  # the silent one, of whom there is no reply to keep


def test_a_judge_out_of_reach_ends_the_run_which_goes_on_elsewhere(
    cluster: None, recipe: DistillRecipe, server: Server
) -> None:
    server.failures = [401] * 3
    with pytest.raises(UserError, match="gave no reply as model 'judge'"):
        distilled(recipe, Told())
    assert recipe.scoring.judge is not None and recipe.teacher is not None
    moved = recipe.model_dump(mode="json")
    for section in (moved["scoring"]["judge"], moved["teacher"]["server"]):
        section |= {"endpoint": server.url.replace("127.0.0.1", "localhost"), "parallel": 2}
    summary = distilled(DistillRecipe.model_validate(moved), Told(), resume=True)
    assert summary["judge"] == 1
    moved["scoring"]["judge"]["model"] = "other"
    with pytest.raises(UserError, match="differs from the run's in scoring"):
        distilled(DistillRecipe.model_validate(moved), Told(), resume=True)


def test_a_teacher_out_of_reach_is_told_in_plain_words(
    cluster: None, recipe: DistillRecipe, server: Server
) -> None:
    work = Distillation.prepare(recipe, resume=False)
    work.judge()
    work.write_chains(Told())
    server.failures = [401] * 9
    with pytest.raises(UserError, match=r"gave no reply as model 'judge'.*401.*--resume"):
        work.mend()
    server.failures.clear()
    work.mend()
    assert work.finish()["judge"] == 1
