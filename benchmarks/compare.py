"""Fresh results of the benchmarks beside the committed ones, by ratio.

    python benchmarks/compare.py runs/bench [--baselines benchmarks/baselines] [--tolerance 0.2]

Compared are ratios of ways that ran in the same minutes, which mean the same on any machine of the
kind; the higher, the better. Ends with 1 where one fell by more than the tolerance, or is missing.
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
    baseline: float
    fresh: float | None
    """None: the fresh result lacks it."""
    goal: float | None

    def fell(self, tolerance: float) -> bool:
        """Whether it is lower than before by more than the tolerated share, or gone."""
        return self.fresh is None or self.fresh < self.baseline * (1 - tolerance)


def compared(fresh: Path, baselines: Path) -> Iterator[Compared]:
    """Every ratio of the baselines whose benchmark was run anew."""
    for path in sorted(baselines.glob("*.json")):
        if not (fresh / path.name).is_file():
            continue
        before, now = (json.loads(p.read_text("utf-8")) for p in (path, fresh / path.name))
        for name, value in before["ratios"].items():
            goal = before["goals"].get(name)
            yield Compared(path.stem, name, value, now["ratios"].get(name), goal)


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("fresh", type=Path, help="folder of the fresh results")
    options.add_argument("--baselines", type=Path, default=BASELINES)
    options.add_argument("--tolerance", type=float, default=0.2, help="share that may be lost")
    chosen = options.parse_args()
    lines = list(compared(chosen.fresh, chosen.baselines))
    if not lines:
        options.error(f"no result in {chosen.fresh} bears the name of one in {chosen.baselines}")
    table = Table("benchmark", "ratio", "baseline", "fresh", "goal", "")
    for line in lines:
        fell = line.fell(chosen.tolerance)
        fresh = "missing" if line.fresh is None else f"{line.fresh:.3g}"
        goal = "" if line.goal is None else f"{line.goal:g}"
        said = "fell" if fell else ""
        table.add_row(line.benchmark, line.name, f"{line.baseline:.3g}", fresh, goal, said)
    Console().print(table)
    sys.exit(any(line.fell(chosen.tolerance) for line in lines))


if __name__ == "__main__":
    main()
