"""What benchmarks share: ways that are timed by turns, and what a run of one leaves behind.

Machines differ, and one machine differs from minute to minute. So ways are timed by turns, figures
are medians, and what is compared from run to run are ratios of ways that ran in the same minutes.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

Goals = Mapping[str, float]
"""The least that each ratio should be."""


def parser(doc: str | None, *, rounds: int) -> argparse.ArgumentParser:
    """Options that every benchmark takes; `doc`: its module's docstring."""
    options = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    options.add_argument("--out", type=Path, required=True, help="JSON file to write")
    options.add_argument("--rounds", type=int, default=rounds, help="turns of each way")
    return options


def by_turns(
    ways: Mapping[str, Callable[[], object]], rounds: int, *, warm_up: int = 1
) -> dict[str, list[float]]:
    """Seconds of each way in each round. All ways run once a round; the first `warm_up` rounds
    count for nothing."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(warm_up + rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            spent = time.perf_counter() - began
            if number >= warm_up:
                took[name].append(spent)
    return took


def times_faster(took: Mapping[str, list[float]], way: str, slower: str) -> float:
    """How often `way` goes into `slower`: the median of the rounds' ratios."""
    return median(b / a for a, b in zip(took[way], took[slower], strict=True))


def medians(took: Mapping[str, list[float]]) -> dict[str, float]:
    """Median seconds of each way, by its name and `_s`."""
    return {f"{name}_s": median(seconds) for name, seconds in took.items()}


def report(
    out: Path,
    title: str,
    *,
    figures: Mapping[str, Any],
    ratios: Mapping[str, float],
    goals: Goals | None = None,
) -> None:
    """Write the JSON file, and show it as a table.

    Args:
        figures: of this machine; not compared with another run's.
        ratios: what `benchmarks/compare.py` compares, the higher the better.
        goals: of some of the ratios.
    """
    goals = goals or {}
    written = {
        "machine": {"cores": len(os.sched_getaffinity(0)), "processor": platform.machine()},
        "figures": dict(figures),
        "ratios": dict(ratios),
        "goals": dict(goals),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    table = Table("", "figure", "goal", title=title)
    for name, value in {**figures, **ratios}.items():
        if not isinstance(value, (list, dict)):
            goal = f"{goals[name]:g}" if name in goals else ""
            table.add_row(name, f"{value:,.4g}" if isinstance(value, float) else str(value), goal)
    Console().print(table)
