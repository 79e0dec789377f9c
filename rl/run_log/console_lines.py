"""The lines that a run prints: one a step, one an evaluation."""

from collections.abc import Mapping, Sequence
from typing import Any

from rl.console.progress import CONSOLE
from rl.run_log import views as run_view


def print_step(line: Mapping[str, Any], steps: int, view: run_view.View) -> None:
    """One line on the console of a line of metrics.jsonl, in a run of `steps` steps."""
    title = f"step {line['step'] + 1:>{len(str(steps))}}/{steps}"
    _tell(title, view.headlines, line)


def print_evaluation(line: Mapping[str, Any], view: run_view.View) -> None:
    """One line on the console of a line of evaluations.jsonl."""
    _tell(f"held out, after {line['step']} steps", view.evaluation, line)


def _tell(title: str, headlines: Sequence[run_view.Headline], figures: Mapping[str, Any]) -> None:
    """The headlines that were measured, and what was not finite."""
    parts = [f"[bold]{title}[/bold]"]
    for headline in headlines:
        value = figures.get(headline.metric)
        if value is not None:
            parts.append(f"[dim]{headline.label}[/dim] {value:{headline.form}}")
    if figures.get("skipped"):
        parts.append("[red]update skipped[/red]")
    if odd := figures.get("non_finite"):
        parts.append(f"[red]not finite: {', '.join(odd)}[/red]")
    CONSOLE.print("  ".join(parts), markup=True)
