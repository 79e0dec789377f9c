"""The clarity of every problem's images, as one map over rows by Ray Data."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rl.console.progress import phase
from rl.data.problems import ProblemSet
from rl.distillation.clarity import clarity
from rl.storage.cache import get_or_build

_BATCH = 64


def clarities(problems: ProblemSet, full_resolution: int, folder: Path) -> NDArray[np.float64]:
    """Clarity of each problem's images, [n] in [0, 1]; NaN where a problem has none.

    Computed once and kept in `folder` as parquet files. `full_resolution`: see `clarity`.
    """

    def fill(aside: Path) -> None:
        with phase(f"looking at images of {len(problems):,} problems"):
            _mapped(problems, full_resolution).write_parquet(str(aside))

    get_or_build(folder, fill)
    found: Any = pq.read_table(folder).to_pydict()  # pyright: ignore[reportUnknownMemberType]
    values = np.full(len(problems), np.nan)
    values[found["index"]] = found["clarity"]
    return values


def _mapped(problems: ProblemSet, full_resolution: int) -> Any:
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    rows = ray.put(problems)

    def look(batch: Any) -> dict[str, NDArray[Any]]:
        mine: ProblemSet = ray.get(rows)
        some = mine.select([int(index) for index in batch["id"]])
        seen = [clarity(p.images, full_resolution) if p.images else np.nan for p in some]
        return {"index": batch["id"], "clarity": np.array(seen)}

    return ray.data.range(len(problems)).map_batches(look, batch_size=_BATCH)
