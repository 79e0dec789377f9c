"""The lines that a run prints, in rich's markup: one a step, one an evaluation."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape

from rl.console.progress import CONSOLE
from rl.data.records import ScoredGroup
from rl.run_page.views import Headline, View


def print_line(done: int, text: str) -> None:
    """Print `text`; `done`, the updates behind it, is for displays that show progress."""
    CONSOLE.print(text, markup=True)


def step_text(line: Mapping[str, Any], steps: int, view: View) -> str:
    """The headlines of a line of metrics.jsonl, in a run of `steps` steps."""
    return _text(f"step {line['step'] + 1:>{len(str(steps))}}/{steps}", view.headlines, line)


def evaluation_text(line: Mapping[str, Any], view: View) -> str:
    """The headlines of a line of evaluations.jsonl."""
    return _text(f"held out, after {line['step']} steps", view.evaluation, line)


_SHOWN_CHARS = 600


def graded_answer_text(scored: ScoredGroup, weights: Mapping[str, float]) -> str:
    """The first answer of a group, whole or by its ends, and what each reward says of it.

    `weights`: of the rewards, by their names.
    """
    problem, answer, score = scored.group.problem, scored.group.answers[0], scored.scores[0]
    ended = "cut off" if answer.finish_reason == "length" else "ended by itself"
    reward = "not scored" if score.reward is None else f"{score.reward:.3g}"
    lines = [
        f"[bold]one answer as it is graded[/bold]  [dim]problem[/dim] {escape(problem.id)}  "
        f"[dim]gold[/dim] {escape(' | '.join(problem.gold))}",
        f"[dim]asked[/dim]    {_shown(problem.question)}",
        f"[dim]answered[/dim] {_shown(answer.text)}  "
        f"[dim]({len(answer.token_ids)} tokens, {ended})[/dim]",
        f"[dim]reward[/dim]   {reward}",
    ]
    for name, verdict in score.verdicts.items():
        why = f": {_shown(verdict.detail)}" if verdict.detail else ""
        lines.append(f"  {weights[name]:g} x {name} {verdict.score:.3g}, {verdict.cause}{why}")
    return "\n".join(lines)


def _shown(text: str) -> str:
    """Text on one line, its middle left out where it is long."""
    line = text.replace("\n", "\\n")
    half = _SHOWN_CHARS // 2
    return escape(line if len(line) <= _SHOWN_CHARS else f"{line[:half]} … {line[-half:]}")


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
