"""Writes a run's metrics, samples, evaluations, summary, plot and page into its folder.

Lines of JSON are written step by step, so that a run that dies has written everything up to its
last step; a run that goes on from a checkpoint writes no step twice.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, Self

from configs.schema.run import TrainingLogConfig
from rl.data.images import image_format
from rl.run_log.console_lines import evaluation_text, print_line, step_text
from rl.run_log.plots import plot_run
from rl.run_log.samples import Logged
from rl.run_log.wandb_tracker import Tracker
from rl.run_page.page import RunPage, fill_from_files
from rl.run_page.views import GRPO, View
from rl.storage.atomic import atomic_file
from rl.storage.jsonl import JsonlWriter, filter_lines, json_number, read_lines


class Recipe(Protocol):
    """The fields that a log needs of any job's recipe."""

    @property
    def name(self) -> str: ...
    @property
    def steps(self) -> int: ...
    @property
    def log(self) -> TrainingLogConfig: ...
    def model_dump(self, *, mode: str) -> dict[str, Any]: ...


class RunLog:
    """Writes a run's files, hands a line a step to `show`, and figures to gauges and wandb."""

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        *,
        gauge: Callable[[str, float], None] | None = None,
        resume: int | None = None,
        view: View = GRPO,
        show: Callable[[int, str], object] = print_line,
    ) -> None:
        """Open the log of a new run, or of one that goes on with step `resume`.

        What an interrupted run wrote of step `resume` and later is cut, since it comes again.

        Args:
            gauge: is called with each figure's name and value.
            view: which figures console, plot and page show.
            show: is called with (updates done, line in rich's markup) at each step and evaluation.

        Raises:
            ValueError: `folder` holds a run's metrics, and `resume` is None.
        """
        self.folder = folder
        self._recipe = recipe
        self._gauge = gauge
        self._view = view
        self._show = show
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
        self._tell_progress(first, time.time())
        for path in (self._metrics_path, samples_path):
            filter_lines(path, lambda line: line["step"] < first)
        filter_lines(self._evaluations_path, lambda line: line["step"] <= first)
        self._metrics = JsonlWriter(self._metrics_path)
        self._samples = JsonlWriter(samples_path)
        self._page = self._opened_page() if recipe.log.report else None
        self._tracker = (
            Tracker(folder, recipe.name, recipe.model_dump(mode="json"))
            if recipe.log.wandb
            else None
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write_step(
        self, step: int, metrics: Mapping[str, float], learned: Sequence[Logged]
    ) -> None:
        """Write the metrics of `step` (0, 1, ...) and samples of what it learned from.

        A figure that is NaN or infinite is written as null, named under `non_finite`, and counted.
        """
        line = self._line(step, metrics)
        samples = (sample for each in learned for sample in each.lines(self._keep_images))
        wanted = islice(samples, self._recipe.log.samples_per_step)
        kept = [{"step": step, **sample} for sample in wanted]
        self._samples.write(*kept)
        self._metrics.write(line)
        if self._page is not None:
            self._page.add_step(line)
            self._page.add_samples(kept)
            self._page.write()
        self._publish(step, "", metrics, kept[: self._recipe.log.wandb_samples])
        self._tell_progress(step + 1, line["time"])
        self._show(step + 1, step_text(line, self._recipe.steps, self._view))

    def write_evaluation(self, step: int, figures: Mapping[str, float]) -> None:
        """Write the held-out figures of the policy after `step` updates, and draw the plot.

        An evaluation of the same step, from before an interruption, is replaced.
        """
        line = self._line(step, figures)
        filter_lines(self._evaluations_path, lambda line: line["step"] != step)
        evaluations = JsonlWriter(self._evaluations_path)
        evaluations.write(line)
        evaluations.close()
        self._publish(step, "evaluation/", figures)
        self._show(step, evaluation_text(line, self._view))
        self.draw()

    def write_summary(self, summary: Mapping[str, Any]) -> Path:
        """Write summary.json, with the count of figures that were not finite, and the plot."""
        clean = {k: json_number(v) if isinstance(v, float) else v for k, v in summary.items()}
        clean["non_finite_figures"] = self._non_finite
        path = self.folder / "summary.json"
        with atomic_file(path) as aside:
            aside.write_text(json.dumps(clean, indent=2, allow_nan=False) + "\n", "utf-8")
        self.draw()
        return path

    def draw(self) -> Path:
        """Draw the run so far into plot.png, and bring its page up to date."""
        path = self.folder / "plot.png"
        plot_run(
            path,
            self._recipe.name,
            self._view.panels,
            list(read_lines(self._metrics_path)),
            list(read_lines(self._evaluations_path)),
        )
        if self._page is not None:
            self._page.write()
        return path

    def close(self) -> None:
        """Close the files, and give wandb a bounded time to send what is left."""
        self._metrics.close()
        self._samples.close()
        if self._tracker is not None:
            self._tracker.close()

    def _opened_page(self) -> RunPage:
        """The page of what the run has done so far."""
        recipe = self._recipe.model_dump(mode="json")
        page = RunPage(self.folder, recipe, self._view, copy_images=True)
        fill_from_files(page, self.folder)
        return page

    def _line(self, step: int, figures: Mapping[str, float]) -> dict[str, Any]:
        """A line of metrics.jsonl or evaluations.jsonl; counts the figures that are not finite."""
        line: dict[str, Any] = {"step": step, "time": round(time.time(), 3)}
        line |= {name: json_number(value) for name, value in figures.items()}
        if odd := [name for name in figures if line[name] is None]:
            line["non_finite"] = odd
        self._non_finite += len(odd)
        return line

    def _publish(
        self,
        step: int,
        prefix: str,
        figures: Mapping[str, float],
        samples: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Hand the finite figures to gauges and wandb, the samples to wandb."""
        finite = {name: json_number(value) for name, value in figures.items()}
        known = {f"{prefix}{name}": v for name, v in finite.items() if v is not None}
        if self._gauge is not None:
            for name, value in known.items():
                self._gauge(name, value)
        if self._tracker is not None:
            self._tracker.write(step, known, samples)

    def _tell_progress(self, done: int, now: float) -> None:
        """Hand to gauges how far the run is: whoever watches sees a step that does not end."""
        if self._gauge is not None:
            for name, value in (("steps_done", done), ("steps", self._recipe.steps), ("time", now)):
                self._gauge(name, value)

    def _keep_images(self, images: Sequence[bytes | str]) -> list[str]:
        """Names of the images in the run's folder: paths stay, bytes are written to a file named by
        their hash."""
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
