"""Makes an R1V from parts, or gives one another language model (paper, section 2.1).

    python rl/assemble.py vision=FOLDER llm=FOLDER out=FOLDER [options.key=value ...] [--dry-run]
    python rl/assemble.py base=R1V_FOLDER llm=FOLDER out=FOLDER [options.key=value ...] [--dry-run]

The first writes a vision encoder, a new projector and a language model as one transformers folder;
the second keeps the encoder and the projector of such a folder. Hub names will do for folders.
"""

import sys
from pathlib import Path

# Python puts rl/ first, where names of ours hide other packages; Ray hands it on to workers.
sys.path[:] = [str(Path(__file__).resolve().parents[1]), *sys.path[1:]]

from configs.jobs.assembly import AssembleRecipe
from rl.console.command import run_command


def main(argv: list[str]) -> None:
    """Plan, and unless it is a dry run write; what does not fit is refused before anything is."""
    from rl.jobs.assembly import assemble

    run_command(
        argv,
        AssembleRecipe,
        lambda command: assemble(command.recipe, write=True),
        default=None,
        dry_run=lambda recipe: assemble(recipe, write=False),
        flags=("--dry-run", "--help"),
    )


if __name__ == "__main__":
    main(sys.argv[1:])
