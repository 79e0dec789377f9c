"""Chains on disk: what was kept comes back as chats that supervised training reads."""

from pathlib import Path

import pyarrow.parquet as pq

from configs.schema.data import PromptConfig
from rl.data.chats import ChatSet
from rl.data.records import Problem, Turn
from rl.distillation.shards import Chain, chats_of, write_shard
from tests.unit.step_samples import png

SCORES = {"vision": 0.5, "text": 0.25, "integration": 0.0}
PROMPT = PromptConfig(system="Be brief.", suffix="Box it.")


def written(folder: Path) -> Path:
    stored = folder / "elsewhere.png"
    stored.write_bytes(png(30, 20))
    pairs = [
        (
            Problem("a", "Add <image> and <image>.", ("12", "twelve"), (png(9, 9), str(stored))),
            Chain("<think>5 + 7 = 12</think>12", "policy", 11, 1.05, SCORES),
        ),
        (
            Problem("b", "Again <image>", ("3",), (png(9, 9),)),
            Chain("3", "teacher", 2, 1.0, SCORES),
        ),
    ]
    return write_shard(folder / "run", 3, pairs, PROMPT)


def test_a_shard_has_what_was_kept_with_its_provenance_scores_and_penalty(tmp_path: Path) -> None:
    path = written(tmp_path)
    assert path.name == "train-00003.parquet"
    first, second = pq.read_table(path).to_pylist()
    assert (first["provenance"], first["tokens"], first["penalty"]) == ("policy", 11, 1.05)
    assert first["vision_score"] == 0.5 and first["integration_score"] == 0.0
    assert first["answer"] == ["12", "twelve"]
    assert second["provenance"] == "teacher"


def test_an_image_is_kept_once_whoever_shows_it(tmp_path: Path) -> None:
    first, second = pq.read_table(written(tmp_path)).to_pylist()
    assert first["images"][0] == second["images"][0]
    assert len(list((tmp_path / "run" / "images").iterdir())) == 2


def test_supervised_training_reads_the_chats_as_the_policy_was_asked(tmp_path: Path) -> None:
    written(tmp_path)
    chats = ChatSet.open(
        chats_of(tmp_path / "run"),
        measure=lambda chat: 1,
        max_tokens=10,
        rejected=tmp_path / "rejected.jsonl",
        seed=0,
    )
    first, second = chats.chats([0, 1])
    assert first.id == "a" and len(first.images) == 2
    assert first.turns == (
        Turn("system", "Be brief."),
        Turn("user", "Add <image> and <image>.\nBox it."),
        Turn("assistant", "<think>5 + 7 = 12</think>12"),
    )
    assert second.turns[-1].text == "3"
