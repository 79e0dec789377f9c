"""What a run leaves behind: metrics, samples, evaluations, a summary and a picture of it.

All of it is plain text in the run's folder, a line at a time, so that a run that dies has told
everything up to its last step, and one that goes on from a checkpoint tells no step twice.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from configs.schema import LogConfig
from rl import run_view
from rl.console import CONSOLE
from rl.images import image_format
from rl.jsonl import Appender, finite, keep_lines, read_lines
from rl.plots import plot_run
from rl.records import Answer, Score, ScoredGroup
from rl.tracking import Tracker

logger = logging.getLogger(__name__)


KeepImages = Callable[[Sequence[bytes | str]], list[str]]
"""Names that images have in the run's folder, bytes written there once."""


class Logged(Protocol):
    """Something that a step learned from, as lines of samples.jsonl."""

    def lines(self, keep: KeepImages) -> Iterator[dict[str, Any]]:
        """What is told of each sample, without its step."""
        ...


@dataclass(frozen=True, slots=True)
class LoggedGroup:
    """A scored group with what the learner made of each answer."""

    scored: ScoredGroup
    advantages: tuple[float | None, ...]
    """None for an answer that was left out of the update."""
    gaps: tuple[float | None, ...]
    """Mean absolute gap of sampler and learner logprobs of each answer, nats."""

    def lines(self, keep: KeepImages) -> Iterator[dict[str, Any]]:
        """A line an answer, with all that was said of it."""
        problem = self.scored.group.problem
        asked = {
            "problem": problem.id,
            "question": problem.question,
            "images": keep(problem.images),
            "gold": list(problem.gold),
            "prompt_tokens": len(self.scored.group.prompt_ids),
        }
        answers = self.scored.group.answers
        parts = zip(answers, self.scored.scores, self.advantages, self.gaps, strict=True)
        for place, (answer, score, advantage, gap) in enumerate(parts):
            yield {
                **asked,
                "sample": place,
                **_told(answer, score),
                "advantage": finite(advantage),
                "logprob_gap": finite(gap),
            }


class Recipe(Protocol):
    """What a recipe of any job tells its log."""

    @property
    def name(self) -> str: ...
    @property
    def steps(self) -> int: ...
    @property
    def log(self) -> LogConfig: ...
    def model_dump(self, *, mode: str) -> dict[str, Any]: ...


def set_aside(folder: Path) -> None:
    """Move a run that already lies in `folder` to the first free `folder`-1, -2 ..., and say so.

    For a run that starts from the beginning: no run is ever written over.
    """
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    number = 1
    while (aside := folder.with_name(f"{folder.name}-{number}")).exists():
        number += 1
    folder.rename(aside)
    CONSOLE.print(f"an older run of this name now lies in {aside}")


class RunLog:
    """Writes a run's traces into its folder, a line to the console, and figures to gauges."""

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        *,
        gauge: Callable[[str, float], None] | None = None,
        resume: int | None = None,
        view: run_view.View = run_view.GRPO,
    ) -> None:
        """Open the log of a new run, or of one that goes on with step `resume`.

        What an interrupted run wrote of step `resume` and later is cut, since it comes again.

        Raises:
            ValueError: `folder` holds a run's metrics, and `resume` is None.
        """
        self.folder = folder
        self._recipe = recipe
        self._gauge = gauge
        self._view = view
        self._non_finite = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._metrics_path = folder / "metrics.jsonl"
        self._evaluations_path = folder / "evaluations.jsonl"
        samples_path = folder / "samples.jsonl"
        if resume is None and self._metrics_path.is_file() and self._metrics_path.stat().st_size:
            raise ValueError(
                f"{folder} holds a run already: go on with it by --resume, or give this one "
                "another name"
            )
        first = resume or 0
        for path in (self._metrics_path, samples_path):
            keep_lines(path, lambda line: line["step"] < first)
        keep_lines(self._evaluations_path, lambda line: line["step"] <= first)
        self._metrics = Appender(self._metrics_path)
        self._samples = Appender(samples_path)
        self._tracker = (
            Tracker(folder, recipe.name, recipe.model_dump(mode="json"))
            if recipe.log.wandb
            else None
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def write_step(
        self, step: int, metrics: Mapping[str, float], learned: Sequence[Logged]
    ) -> None:
        """Write what `step` (0, 1, ...) measured and samples of what it learned from.

        A figure that is NaN or infinite is written as null, named under `non_finite`, and counted.
        """
        figures, odd = self._cleaned(metrics)
        line: dict[str, Any] = {"step": step, "time": round(time.time(), 3), **figures}
        if odd:
            line["non_finite"] = odd
        told = (line for each in learned for line in each.lines(self._keep_images))
        wanted = islice(told, self._recipe.log.samples_per_step)
        self._samples.write(*({"step": step, **sample} for sample in wanted))
        self._metrics.write(line)
        self._publish(step, "", figures)
        tell_step(line, self._recipe.steps, self._view)

    def write_evaluation(self, step: int, figures: Mapping[str, float]) -> None:
        """Write how the policy behind `step` updates did on held-out problems, and draw the plot.

        An evaluation of the same step, from before an interruption, is replaced.
        """
        clean, odd = self._cleaned(figures)
        keep_lines(self._evaluations_path, lambda line: line["step"] != step)
        evaluations = Appender(self._evaluations_path)
        line: dict[str, Any] = {"step": step, "time": round(time.time(), 3), **clean}
        if odd:
            line["non_finite"] = odd
        evaluations.write(line)
        evaluations.close()
        self._publish(step, "evaluation/", clean)
        tell_evaluation(line, self._view)
        self.draw()

    def write_summary(self, summary: Mapping[str, Any]) -> Path:
        """Write summary.json, with the count of figures that were not finite, and the plot."""
        clean = {k: finite(v) if isinstance(v, float) else v for k, v in summary.items()}
        clean["non_finite_figures"] = self._non_finite
        path = self.folder / "summary.json"
        aside = self.folder / ".summary.json"
        aside.write_text(json.dumps(clean, indent=2, allow_nan=False) + "\n", "utf-8")
        aside.replace(path)
        self.draw()
        return path

    def draw(self) -> Path:
        """Draw the run so far into plot.png."""
        path = self.folder / "plot.png"
        plot_run(
            path,
            self._recipe.name,
            self._view.panels,
            list(read_lines(self._metrics_path)),
            list(read_lines(self._evaluations_path)),
        )
        return path

    def close(self) -> None:
        """Close the files, and give wandb a bounded time to send what is left."""
        self._metrics.close()
        self._samples.close()
        if self._tracker is not None:
            self._tracker.close()

    def _cleaned(self, metrics: Mapping[str, float]) -> tuple[dict[str, float | None], list[str]]:
        """Figures fit for JSON, and the names of those that were not finite, which are counted."""
        clean = {name: finite(value) for name, value in metrics.items()}
        odd = [name for name, value in clean.items() if value is None]
        self._non_finite += len(odd)
        return clean, odd

    def _publish(self, step: int, prefix: str, figures: Mapping[str, float | None]) -> None:
        known = {f"{prefix}{name}": v for name, v in figures.items() if v is not None}
        if self._gauge is not None:
            for name, value in known.items():
                self._gauge(name, value)
        if self._tracker is not None:
            self._tracker.write(step, known)

    def _keep_images(self, images: Sequence[bytes | str]) -> list[str]:
        """Paths as they are; bytes go into a file named by their content, once for all samples."""
        names: list[str] = []
        for image in images:
            if isinstance(image, str):
                names.append(image)
                continue
            digest = hashlib.sha256(image).hexdigest()[:20]
            name = f"images/{digest}.{image_format(image)}"
            path = self.folder / name
            if not path.is_file():
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(image)
            names.append(name)
        return names


def _told(answer: Answer, score: Score) -> dict[str, Any]:
    return {
        "answer": answer.text,
        "finish_reason": answer.finish_reason,
        "tokens": len(answer.token_ids),
        "version": answer.version,
        "reward": finite(score.reward),
        "verdicts": {
            name: {"score": finite(verdict.score), "cause": verdict.cause, "detail": verdict.detail}
            for name, verdict in score.verdicts.items()
        },
    }


def tell_step(line: Mapping[str, Any], steps: int, view: run_view.View) -> None:
    """One line on the console of a line of metrics.jsonl, in a run of `steps` steps."""
    title = f"step {line['step'] + 1:>{len(str(steps))}}/{steps}"
    _tell(title, view.headlines, line)


def tell_evaluation(line: Mapping[str, Any], view: run_view.View) -> None:
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
