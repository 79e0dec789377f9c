"""The table of all policies on the way, the counterpart of the paper's table 2."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from rich.table import Table

from rl.run_log.plots import COLOURS, INK, PALE
from rl.stages.measure import SetFigures
from rl.storage.atomic import atomic_file

PAPER = (64.0, 60.2, 62.5, 63.9, 64.7, 65.2, 65.6, 69.0)
"""MMMU (val) of M', reassembled, M_0 ... M_4 and GRPO (arXiv 2504.05599, table 2), percent."""


@dataclass(frozen=True, slots=True)
class Row:
    """A policy on the way."""

    policy: str
    stage: str
    """The stage that made it."""
    wall_s: float
    """Seconds of that stage, and of the chains that it learned."""
    sets: SetFigures


def rich_table(rows: Sequence[Row]) -> Table:
    """The table for a console."""
    header, *body = _cells(rows)
    table = Table(*header)
    for cells in body:
        table.add_row(*cells)
    return table


def write_table(folder: Path, title: str, rows: Sequence[Row]) -> None:
    """Write policies.json, policies.md and policies.png into `folder`, each whole or not at all."""
    header, *body = _cells(rows)
    lines = [f"# {title}", "", _line(header), _line(["---"] * len(header)), *map(_line, body)]
    as_json = [
        {"policy": row.policy, "stage": row.stage, "wall_s": row.wall_s, "sets": dict(row.sets)}
        for row in rows
    ]
    for name, text in (("md", "\n".join(lines)), ("json", json.dumps(as_json, indent=2))):
        with atomic_file(folder / f"policies.{name}") as aside:
            aside.write_text(f"{text}\n", "utf-8")
    _draw(folder / "policies.png", title, rows)


def _cells(rows: Sequence[Row]) -> list[list[str]]:
    sets = list(rows[0].sets)
    paper = len(rows) == len(PAPER)
    header = ["policy", *[f"{name}, % (95 %)" for name in sets]]
    header += [f"{what}, {name}" for name in sets for what in ("tokens", "think %")] + ["seconds"]
    cells = [header + (["paper, MMMU"] if paper else [])]
    for number, row in enumerate(rows):
        line = [row.policy, *[_accuracy(row.sets[name]) for name in sets]]
        for name in sets:
            figures = row.sets[name]
            line += [f"{figures['mean_length']:.1f}", f"{100 * figures['think_share']:.0f}"]
        line.append(f"{row.wall_s:.0f}")
        cells.append(line + ([f"{PAPER[number]:.1f}"] if paper else []))
    return cells


def _accuracy(figures: Mapping[str, float]) -> str:
    accuracy, low, high = (100 * figures[name] for name in ("accuracy", "low", "high"))
    return f"{accuracy:.1f} ({low:.1f} to {high:.1f})"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _draw(path: Path, title: str, rows: Sequence[Row]) -> None:
    figure = Figure(figsize=(8.5, 4.2), dpi=120)
    figure.set_layout_engine("constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.add_subplot()
    places = range(len(rows))
    for name, colour in zip(rows[0].sets, COLOURS, strict=False):
        of_set = [row.sets[name] for row in rows]
        middle = [each["accuracy"] for each in of_set]
        below = [each["accuracy"] - each["low"] for each in of_set]
        above = [each["high"] - each["accuracy"] for each in of_set]
        axes.errorbar(
            places, middle, (below, above), color=colour, label=name, marker="o", capsize=3
        )
    if len(rows) == len(PAPER):
        scores = [score / 100 for score in PAPER]
        axes.plot(places, scores, "--", color=INK, marker=".", label="paper: R1V-38B on MMMU")
    axes.set_xticks(list(places), [row.policy for row in rows])
    axes.set_ylim(0, 1.03)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(axis="y", color=PALE, linewidth=0.6)
    axes.set_title(title, color=INK, fontweight="bold")
    axes.set_ylabel("accuracy")
    axes.legend(frameon=False, fontsize=9)
    with atomic_file(path) as aside:
        figure.savefig(aside, format="png")
