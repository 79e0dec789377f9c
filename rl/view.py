"""The page of a run: curves of its figures, and its samples with images, rewards and tokens.

A training run writes its page by itself, report.html in its folder; this makes it anew from what
the run has left, of whatever command, and of two runs a page that compares them.

    python rl/view.py RUN_FOLDER [RUN_FOLDER] [open=true] [--help]
"""

import json
import sys
from pathlib import Path

# Python puts rl/ first, where names of ours hide other packages; Ray hands it on to workers.
sys.path[:] = [str(Path(__file__).resolve().parents[1]), *sys.path[1:]]

from configs.jobs.view import ViewRecipe
from configs.loading.recipe import Command
from rl.console.command import run_command


def view(command: Command[ViewRecipe]) -> None:
    """Make the page, and say where it is."""
    from rl.run_page.build import view_runs

    view_runs(command.recipe)


def main(argv: list[str]) -> None:
    """Read the command line, where folders stand by themselves, and show the runs."""
    folders = [word for word in argv if _names_a_folder(word)]
    words = [word for word in argv if not _names_a_folder(word)]
    runs = [f"runs={json.dumps(folders)}"] if folders else []
    run_command([*runs, *words], ViewRecipe, view, default=None, flags=("--help",))


def _names_a_folder(word: str) -> bool:
    return Path(word).is_dir() or not (word.startswith("-") or "=" in word)


if __name__ == "__main__":
    main(sys.argv[1:])
