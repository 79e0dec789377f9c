"""Which chains of a round are learned: good ones, and those of problems that were failed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rl.storage.atomic import atomic_file

QUALITY, IDS = "quality", "ids.txt"
HIGHEST = 5
"""Best grade of a chain (paper, section 2.2: 0 to 5)."""


@dataclass(frozen=True, slots=True)
class Grades:
    """Each chain of a round, and what it is worth."""

    ids: list[str]
    quality_N: NDArray[np.int64]
    """0 to 5; -1: no grade."""
    failed_N: NDArray[np.bool_]
    """The policy that was asked got the problem wrong: E_{t-1}."""

    @classmethod
    def read(cls, round_folder: Path) -> "Grades":
        """The grades that a round keeps."""
        columns = ["id", "quality", "failed"]
        table: Any = pq.read_table(round_folder / QUALITY, columns=columns)  # pyright: ignore[reportUnknownMemberType]
        found = table.to_pydict()
        graded = [-1 if grade is None else grade for grade in found["quality"]]
        return cls(found["id"], np.array(graded), np.array(found["failed"], dtype=bool))


def choose(grades: Grades, threshold: int, folder: Path, before: Path | None) -> dict[str, float]:
    """Write the ids of D_t = {RM >= threshold} and E_{t-1} to `folder`/ids.txt.

    Args:
        before: folder of the round before, whose ids are compared.

    Returns:
        chains; ungraded ones, which are never good; good (RM >= threshold), failed, both, and
        chosen, which of them are one or the other; again, the share of the chosen that the round
        before chose too; quality_mean of the graded (0 without any), and quality_0 ... quality_5,
        how many chains have each grade.
    """
    good_N = grades.quality_N >= threshold
    chosen_N = good_N | grades.failed_N
    ids = [name for name, taken in zip(grades.ids, chosen_N, strict=True) if taken]
    _write(folder / IDS, ids)
    graded_M = grades.quality_N[grades.quality_N >= 0]
    counts = np.bincount(graded_M, minlength=HIGHEST + 1)
    figures = {
        "chains": len(grades.ids),
        "ungraded": len(grades.ids) - len(graded_M),
        "good": good_N.sum(),
        "failed": grades.failed_N.sum(),
        "both": (good_N & grades.failed_N).sum(),
        "chosen": chosen_N.sum(),
        "quality_mean": graded_M.mean() if len(graded_M) else 0.0,
        **{f"quality_{grade}": count for grade, count in enumerate(counts)},
    }
    if before is not None:
        earlier = set((before / IDS).read_text("utf-8").splitlines())
        figures["again"] = sum(name in earlier for name in ids) / max(1, len(ids))
    return {name: float(value) for name, value in figures.items()}


def write_best(grades: Grades, path: Path) -> int:
    """Write the ids of chains of the highest grade, which GRPO learns from; returns how many."""
    best = [n for n, grade in zip(grades.ids, grades.quality_N, strict=True) if grade == HIGHEST]
    _write(path, best)
    return len(best)


def best_round(accuracies: Mapping[int, float]) -> int:
    """The round whose policy has the highest held-out accuracy; of equals the later."""
    return max(accuracies, key=lambda number: (accuracies[number], number))


def _write(path: Path, ids: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as aside:
        aside.write_text("".join(f"{name}\n" for name in ids), "utf-8")
