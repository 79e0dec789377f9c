"""Grades of all chains of a distillation, as parquet files beside it."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from configs.schema.quality import QualityConfig
from configs.schema.reward import RewardConfig
from rewards.quality.chains import GradedChain, Quality
from rewards.quality.rules import grade_by_rules
from rl.console.progress import phase
from rl.data.records import Problem
from rl.distillation.shards import CHATS, IMAGES
from rl.jobs.quality import check_ungraded, quality_of
from rl.storage.cache import get_or_build

_BATCH = 1024
_COLUMNS = ["id", "messages", "images", "answer", "provenance"]
_SCHEMA = pa.schema(
    [("id", pa.string()), ("quality", pa.int8()), ("reason", pa.string()), ("failed", pa.bool_())]
)


def grade_chains(chains: Path, out: Path, config: QualityConfig, reward: RewardConfig) -> None:
    """Grade the chains of the distillation in folder `chains`; `out` becomes parquet files.

    Columns of `out`: id; quality (0 to 5, null where nobody could tell); reason; failed (the policy
    got it wrong, and another wrote the chain). Does nothing where `out` is there. Rules grade as
    one map over the rows by Ray Data, each batch with verifiers of its own; others from here.

    Raises:
        UserError: the judge or reward model cannot be used, or too many chains got no grade.
    """

    def fill(aside: Path) -> None:
        with phase("grading chains"):
            if config.kind == "rules":
                _by_rules(chains, aside, config, reward)
            else:
                _from_here(chains, aside, config, reward)

    get_or_build(out, fill)


def _by_rules(chains: Path, out: Path, config: QualityConfig, reward: RewardConfig) -> None:
    import ray.data

    def grade(batch: Any) -> Any:
        rows = batch.to_pylist()
        grades = grade_by_rules(_chains(rows, chains / IMAGES, reward), reward)
        return _table(rows, list(grades))

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    rows = ray.data.read_parquet(str(chains / CHATS)).select_columns(_COLUMNS)
    graded: Any = rows.map_batches(grade, batch_size=_BATCH, batch_format="pyarrow")
    graded.write_parquet(str(out))
    found: Any = pq.read_table(out, columns=["quality", "reason"]).to_pylist()  # pyright: ignore[reportUnknownMemberType]
    why = Counter(row["reason"] for row in found if row["quality"] is None)
    check_ungraded(why, len(found), config.max_ungraded_share)


def _from_here(chains: Path, out: Path, config: QualityConfig, reward: RewardConfig) -> None:
    files = sorted((chains / CHATS).glob("*.parquet"))
    rows = (row for file in files for row in _rows(file))
    grades = quality_of(_chains(rows, chains / IMAGES, reward), config, reward)
    for file in files:
        own = list(_rows(file))
        table = _table(own, [next(grades) for _ in own])
        pq.write_table(table, out / file.name)  # pyright: ignore[reportUnknownMemberType]
    assert next(grades, None) is None


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    for batch in pq.ParquetFile(file).iter_batches(_BATCH, columns=_COLUMNS):
        yield from batch.to_pylist()


def _table(rows: list[dict[str, Any]], grades: list[Quality]) -> Any:
    columns = {
        "id": [row["id"] for row in rows],
        "quality": [quality.grade for quality in grades],
        "reason": [quality.reason for quality in grades],
        "failed": [row["provenance"] != "policy" for row in rows],
    }
    return pa.table(columns, schema=_SCHEMA)


def _chains(
    rows: Iterator[dict[str, Any]] | list[dict[str, Any]], images: Path, reward: RewardConfig
) -> Iterator[GradedChain]:
    for row in rows:
        yield _chain(row, images, reward)


def _chain(row: Mapping[str, Any], images: Path, reward: RewardConfig) -> GradedChain:
    *_, asked, said = row["messages"]
    thinking = reward.thinking
    # Chats have the open tag even where the prompt of an answer had it.
    text = said["content"].removeprefix(thinking.open_tag if thinking.prompt_opens else "")
    shown = tuple(str(images / name) for name in row["images"])
    problem = Problem(row["id"], asked["content"], tuple(row["answer"]), shown)
    return GradedChain(problem, text, right=True)  # others are no chains
