"""The lines that a run prints, in rich's markup: one a step, one an evaluation."""

from collections.abc import Mapping, Sequence
from typing import Any

from rl.console.progress import CONSOLE
from rl.run_log.views import Headline, View


def print_line(done: int, text: str) -> None:
    """Print `text`; `done`, the updates behind it, is for displays that show progress."""
    CONSOLE.print(text, markup=True)


def step_text(line: Mapping[str, Any], steps: int, view: View) -> str:
    """The headlines of a line of metrics.jsonl, in a run of `steps` steps."""
    return _text(f"step {line['step'] + 1:>{len(str(steps))}}/{steps}", view.headlines, line)


def evaluation_text(line: Mapping[str, Any], view: View) -> str:
    """The headlines of a line of evaluations.jsonl."""
    return _text(f"held out, after {line['step']} steps", view.evaluation, line)


def _text(title: str, headlines: Sequence[Headline], figures: Mapping[str, Any]) -> str:
    """The headlines that were measured, and the names of figures that were not finite."""
    parts = [f"[bold]{title}[/bold]"]
    for headline in headlines:
        value = figures.get(headline.metric)
        if value is not None:
            parts.append(f"[dim]{headline.label}[/dim] {value:{headline.form}}")
    if figures.get("skipped"):
        parts.append("[red]update skipped[/red]")
    if odd := figures.get("non_finite"):
        parts.append(f"[red]not finite: {', '.join(odd)}[/red]")
    return "  ".join(parts)
