"""The page of one run as files: report.html, and what it loads from the folder report/.

All of it lies in the run's folder and is named by relative paths, so it opens from a disk without a
server or a network, and goes wherever the folder goes. Figures and samples lie in script files:
those of earlier steps are never written again.
"""

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from configs.loading import yaml12
from rl.run_page.cards import Kind, Line, kind_of
from rl.run_page.html import write_html
from rl.run_page.parts import Parts, write_script
from rl.run_page.pictures import Pictures
from rl.run_page.views import View
from rl.storage.jsonl import read_lines

REPORT = "report.html"
FOLDER = "report"
"""Beside it, with all that it loads but images that the run keeps itself."""

READ_AT_ONCE = 256 * 1024
"""Bytes of a file of figures or of rows, all of which a page reads when it is opened."""
READ_WHEN_SHOWN = 64 * 1024
"""Bytes of a file of cards; two dozen samples may lie in as many files."""


class RunPage:
    """Grows with its run; or is made at once from what a run has left."""

    def __init__(
        self, run: Path, recipe: Mapping[str, Any], view: View, *, copy_images: bool = False
    ) -> None:
        """Begin the page of the run in the folder `run`; files of an earlier one are written over.

        `recipe`: its tree; `view`: which figures stand out; `copy_images`: see `Pictures`.
        """
        self._run = run
        self._recipe = recipe
        self._view = view
        self._folder = run / FOLDER
        self._folder.mkdir(parents=True, exist_ok=True)
        self._pictures = pictures_of(run, copy=copy_images)
        self._figures = Parts(self._folder, "figures", READ_AT_ONCE)
        self._rows = Parts(self._folder, "rows", READ_AT_ONCE)
        self._cards = Parts(self._folder, "cards", READ_WHEN_SHOWN)
        self._kind: Kind | None = None
        self.samples = 0
        self._odd = 0
        write_html(run / REPORT, str(recipe.get("name", run.name)), [""])

    def add_step(self, figures: Mapping[str, Any]) -> None:
        """Put a line of metrics.jsonl behind the others."""
        self._figures.add(figures)

    def add_samples(self, lines: Iterable[Line]) -> None:
        """Put lines of samples.jsonl, or answers with their `benchmark`, behind the others.

        Lines of another kind than the first, or without all that belongs to it, are left out and
        counted.
        """
        for line in lines:
            kind = kind_of(line)
            self._kind = self._kind or kind
            try:
                if kind is None or kind is not self._kind:
                    raise KeyError("of another kind")
                self._add_sample(line, kind)
            except KeyError:
                self._odd += 1

    def _add_sample(self, line: Line, kind: Kind) -> None:
        reward = cast("Mapping[str, Any]", self._recipe.get("reward") or {})
        card = kind.card(line, reward.get("weights") or {})
        row = kind.row(line, reward.get("accuracy", ""))
        card["images"] = [self._pictures(name) for name in line.get("images", ())]
        self._rows.add((*row, *self._cards.add(card)))
        self.samples += 1

    def write(self) -> None:
        """Bring all of it to the disk, with the run's evaluations and summary as they are now."""
        parts = (self._figures, self._rows, self._cards)
        for each in parts:
            each.write()
        evaluations = list(read_lines(self._run / "evaluations.jsonl"))
        manifest = {
            "name": self._recipe.get("name", self._run.name),
            "folder": str(self._run),
            "written": round(time.time()),
            "steps": self._recipe.get("steps"),
            "figures": self._figures.count,
            "rows": self._rows.count,
            "samples": self.samples,
            "odd": self._odd,
            "kind": self._kind.title if self._kind else None,
            "columns": [each._asdict() for each in self._kind.columns] if self._kind else [],
            "headlines": [each._asdict() for each in self._view.headlines],
            "evaluation": [each._asdict() for each in self._view.evaluation],
            "panels": [
                {**panel._asdict(), "curves": [curve._asdict() for curve in panel.curves]}
                for panel in self._view.panels
            ],
            "evaluations": evaluations,
            "recipe": flat(self._recipe),
            "summary": flat(_summary(self._run / "summary.json")),
        }
        write_script(self._folder / "run.js", json.dumps(manifest, ensure_ascii=False))

    def remove_others(self) -> None:
        """Remove files that an earlier page of the run left behind this one's."""
        for each in (self._figures, self._rows, self._cards):
            each.remove_others()


def pictures_of(run: Path, *, copy: bool = False) -> Pictures:
    """The images of the samples of the run in the folder `run`; `copy`: see `Pictures`."""
    return Pictures(run, run / FOLDER / "images", copy=copy)


def fill_from_files(page: RunPage, run: Path) -> None:
    """Put all that the run's files hold into a page that is empty."""
    for line in read_lines(run / "metrics.jsonl"):
        page.add_step(line)
    page.add_samples(read_lines(run / "samples.jsonl"))
    page.write()
    page.remove_others()


def flat(tree: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """The leaves of a tree by their dotted names; lists as one line of YAML."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping) and value:
            leaves |= flat(cast("Mapping[str, Any]", value), f"{name}.")
        else:
            plain = value is None or isinstance(value, int | float | str)
            leaves[name] = value if plain else yaml12.to_inline_yaml(value)
    return leaves


def _summary(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}
