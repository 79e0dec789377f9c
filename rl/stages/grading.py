"""Grades of all chains of a distillation, as one map over its files by Ray Data."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from configs.schema.quality import QualityConfig
from configs.schema.reward import ThinkingConfig
from rewards.quality.grading import GradedChain, rule_grade
from rl.console.progress import phase
from rl.distillation.shards import CHATS, IMAGES
from rl.storage.cache import get_or_build

_BATCH = 256
_COLUMNS = ["id", "messages", "images", "answer", "provenance"]


def grade_chains(chains: Path, out: Path, config: QualityConfig, thinking: ThinkingConfig) -> None:
    """Grade the chains of the distillation in folder `chains`; `out` becomes parquet files.

    Columns of `out`: id; quality (0 to 5); reason; failed (the policy got it wrong, and a teacher
    wrote the chain). Does nothing where `out` is there.
    """
    import ray.data

    def grade(batch: Any) -> dict[str, Any]:
        grades = [rule_grade(chain, thinking) for chain in _chains(batch, chains / IMAGES)]
        return {
            "id": batch["id"],
            "quality": np.array([grade.quality for grade in grades], dtype=np.int8),
            "reason": np.array([grade.reason for grade in grades], dtype=object),
            "failed": np.array([by != "policy" for by in batch["provenance"]]),
        }

    def fill(aside: Path) -> None:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        with phase("grading chains"):
            rows = ray.data.read_parquet(str(chains / CHATS), columns=_COLUMNS)
            rows.map_batches(grade, batch_size=_BATCH).write_parquet(str(aside))

    assert config.kind == "rules"
    get_or_build(out, fill)


def _chains(batch: Mapping[str, Any], images: Path) -> list[GradedChain]:
    rows = zip(batch["messages"], batch["answer"], batch["images"], strict=True)
    return [_chain(messages, gold, shown, images) for messages, gold, shown in rows]


def _chain(
    messages: Sequence[Mapping[str, str]], gold: Sequence[str], shown: Sequence[str], images: Path
) -> GradedChain:
    *_, asked, said = messages
    return GradedChain(
        question=asked["content"],
        gold=tuple(gold),
        text=said["content"],
        right=True,  # others are no chains
        images=tuple(str(images / name) for name in shown),
    )
