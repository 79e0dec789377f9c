"""Fresh results of the benchmarks beside the committed ones, by ratio.

    python benchmarks/compare.py runs/bench [--baselines benchmarks/baselines] [--tolerance 0.2]

Compared are ratios of ways that ran in the same minutes, which mean the same on any machine of the
kind; the higher, the better. Ends with 1 where one fell by more than the tolerance, or where the
fresh result of a benchmark lacks it. Benchmarks that were not run are named, and are no fault. A
result without a baseline is shown beside its goals alone.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

BASELINES = Path(__file__).resolve().parent / "baselines"


@dataclass(frozen=True, slots=True)
class Compared:
    """A ratio before and now."""

    benchmark: str
    name: str
    baseline: float | None
    """None: no baseline has it."""
    fresh: float | None
    """None: the fresh result lacks it."""
    goal: float | None

    def fell(self, tolerance: float) -> bool:
        """Whether it is lower than before by more than the tolerated share, or gone."""
        if self.baseline is None:
            return False
        return self.fresh is None or self.fresh < self.baseline * (1 - tolerance)


def compared(fresh: Path, baselines: Path) -> Iterator[Compared]:
    """Every ratio of the fresh results, and of the baselines of the benchmarks that were run."""
    for path in sorted(fresh.glob("*.json")):
        now = json.loads(path.read_text("utf-8"))
        committed = baselines / path.name
        before = json.loads(committed.read_text("utf-8")) if committed.is_file() else {"ratios": {}}
        for name in dict.fromkeys([*before["ratios"], *now["ratios"]]):
            values = (before["ratios"].get(name), now["ratios"].get(name))
            yield Compared(path.stem, name, *values, now["goals"].get(name))


def not_run(fresh: Path, baselines: Path) -> list[str]:
    """The benchmarks that have a baseline and no fresh result."""
    run = {path.stem for path in fresh.glob("*.json")}
    return sorted({path.stem for path in baselines.glob("*.json")} - run)


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("fresh", type=Path, help="folder of the fresh results")
    options.add_argument("--baselines", type=Path, default=BASELINES)
    options.add_argument("--tolerance", type=float, default=0.2, help="share that may be lost")
    chosen = options.parse_args()
    lines = list(compared(chosen.fresh, chosen.baselines))
    if not lines:
        options.error(f"{chosen.fresh} holds no results: run a benchmark with --out first")
    table = Table("benchmark", "ratio", "baseline", "fresh", "goal", "")
    for line in lines:
        shown = ("" if x is None else f"{x:.3g}" for x in (line.baseline, line.fresh, line.goal))
        said = "fell" if line.fell(chosen.tolerance) else ""
        table.add_row(line.benchmark, line.name, *shown, said)
    Console().print(table)
    if missing := not_run(chosen.fresh, chosen.baselines):
        Console().print(f"not run, so not compared: {', '.join(missing)}")
    sys.exit(any(line.fell(chosen.tolerance) for line in lines))


if __name__ == "__main__":
    main()
