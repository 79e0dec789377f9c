"""The picture of a run: a few curves over its steps."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from rl.run_page.views import Curve, Panel
from rl.storage.atomic import atomic_file

Line = Mapping[str, Any]
"""A line of metrics.jsonl or evaluations.jsonl: `step` and figures, null where not finite."""

COLOURS = ("#2563eb", "#ea580c", "#059669", "#9333ea")
INK, PALE = "#1f2937", "#d1d5db"
_SMOOTH_FROM = 20  # steps; below, a running mean hides more than it shows


def plot_run(
    path: Path,
    title: str,
    panels: Sequence[Panel],
    steps: Sequence[Line],
    evaluations: Sequence[Line],
) -> None:
    """Draw `panels` two in a row into the PNG at `path`; a panel without figures says so."""
    rows = -(-len(panels) // 2)
    figure = Figure(figsize=(11, 3.4 * rows + 0.6), dpi=110)
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.12)
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=14, fontweight="bold", color=INK)
    for place, panel in enumerate(panels):
        axes = figure.add_subplot(rows, 2, place + 1)
        drawn = [
            _curve(axes, curve, colour, evaluations if curve.evaluated else steps)
            for curve, colour in zip(panel.curves, COLOURS, strict=False)
        ]
        _dress(axes, panel, any(drawn))
        if sum(drawn) > 1:
            axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    with atomic_file(path) as aside:
        figure.savefig(aside, format="png")


def running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """[n] -> [n]: the mean of up to `width` values around each; fewer near the ends."""
    kernel = np.ones(width)
    return np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same")


def _curve(axes: Axes, curve: Curve, colour: str, lines: Sequence[Line]) -> bool:
    """Draw one curve; False when no line has a figure for it."""
    points = [(line["step"], line[curve.metric]) for line in lines if curve.metric in line]
    points = [(step, value) for step, value in points if value is not None]
    if not points:
        return False
    steps, values = np.array(points, dtype=float).T
    if curve.evaluated or len(points) < _SMOOTH_FROM:
        axes.plot(steps, values, "-o", color=colour, markersize=4, label=curve.label)
        return True
    axes.plot(steps, values, color=colour, alpha=0.25, linewidth=1)
    smooth = running_mean(values, max(3, len(points) // 20) | 1)
    axes.plot(steps, smooth, color=colour, linewidth=2, label=curve.label)
    return True


def _dress(axes: Axes, panel: Panel, drawn: bool) -> None:
    axes.set_title(panel.title, loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.set_xlabel("step", fontsize=9, color=INK)
    axes.set_ylabel(panel.unit, fontsize=9, color=INK)
    axes.tick_params(which="both", colors=INK, labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(PALE)
    axes.grid(color=PALE, alpha=0.5, linewidth=0.6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    if not drawn:
        axes.text(0.5, 0.5, "not measured", ha="center", color=INK, transform=axes.transAxes)
        return
    if panel.shares:
        axes.set_ylim(0, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    positive = any((np.asarray(line.get_ydata()) > 0).any() for line in axes.lines)
    if panel.logarithmic and positive:
        axes.set_yscale("log", nonpositive="mask")
