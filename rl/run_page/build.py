"""Pages made from what runs have left: of one run, or of two side by side."""

import os
import webbrowser
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

from configs.jobs.view import ViewRecipe
from configs.loading import yaml12
from configs.loading.recipe import SAVED_AS
from rl.console.errors import UserError, as_user_error
from rl.console.progress import CONSOLE
from rl.run_page.html import write_html
from rl.run_page.page import REPORT, RunPage, fill_from_files
from rl.run_page.views import view_of
from rl.storage.jsonl import read_lines


def view_runs(recipe: ViewRecipe) -> Path:
    """Make the page of the recipe's runs, say where it lies, and open it if that is wanted.

    Raises:
        UserError: a folder is no run's, or holds nothing that could be shown.
    """
    folders = [Path(run) for run in recipe.runs]
    pages = [_made(folder) for folder in folders]
    page = folders[0] / REPORT
    if len(folders) > 1:
        page = compared(*folders)
    for folder, made in zip(folders, pages, strict=True):
        CONSOLE.print(f"{folder}: samples: {made.samples:,}")
    CONSOLE.print(f"open {page.resolve().as_uri()} in a browser")
    if recipe.open:
        webbrowser.open(page.resolve().as_uri())
    return page


def compared(first: Path, second: Path) -> Path:
    """Write the page of two runs, each of which has its own already, into the first's folder."""
    way = os.path.relpath(second.resolve(), first.resolve())
    page = first / f"compare_{second.resolve().name}.html"
    title = f"{first.resolve().name} and {second.resolve().name}"
    write_html(page, title, ["", f"{quote(Path(way).as_posix())}/"])
    return page


def _made(run: Path) -> RunPage:
    if not run.is_dir():
        raise UserError(f"{run} is no folder; name a run's, such as runs/digits")
    metrics, answers = run / "metrics.jsonl", sorted((run / "answers").glob("*.jsonl"))
    if not metrics.is_file() and not answers:
        raise UserError(_nothing_in(run))
    with as_user_error():
        figures = {name for line in read_lines(metrics) for name in line}
        page = RunPage(run, _recipe(run / SAVED_AS), view_of(figures))
        for path in answers:
            page.add_samples(_of_benchmark(path))
        fill_from_files(page, run)
    return page


def _of_benchmark(path: Path) -> Iterator[dict[str, Any]]:
    for line in read_lines(path):
        yield {"benchmark": path.stem, **line}


def _recipe(path: Path) -> Mapping[str, Any]:
    """The tree of a run's recipe, whichever command's; empty where there is none."""
    if not path.is_file():
        return {}
    tree, _ = yaml12.parse_yaml(path.read_text("utf-8"), str(path))
    return cast("Mapping[str, Any]", tree) if isinstance(tree, Mapping) else {}


def _nothing_in(run: Path) -> str:
    """Why there is nothing to show, and which runs lie below, as those of a pipeline's stages."""
    told = f"{run} holds neither metrics.jsonl nor answers of an evaluation: nothing to show"
    below = sorted(path.parent for path in run.glob("*/metrics.jsonl"))
    if not below:
        return f"{told}; name the folder of a run that has begun"
    return f"{told} of itself; runs below it: {', '.join(map(str, below))}"
