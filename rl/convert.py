"""Rewrites a checkpoint from the `*ChatModel` layout of Skywork R1V and InternVL to transformers'
InternVL, or back.

    python rl/convert.py source=FOLDER out=FOLDER layout=transformers|skywork|internvl [--dry-run]

Weights go from file to file, bit for bit. What the other layout cannot hold is named and refused.
"""

import sys
from pathlib import Path

# Python puts rl/ first, where names of ours hide other packages; Ray hands it on to workers.
sys.path[:] = [str(Path(__file__).resolve().parents[1]), *sys.path[1:]]

from configs.jobs.assembly import ConvertRecipe
from rl.console.command import run_command


def main(argv: list[str]) -> None:
    """Plan, and unless it is a dry run write; what does not fit is refused before anything is."""
    from rl.jobs.assembly import convert

    run_command(
        argv,
        ConvertRecipe,
        lambda command: convert(command.recipe, write=True),
        default=None,
        dry_run=lambda recipe: convert(recipe, write=False),
        flags=("--dry-run", "--help"),
    )


if __name__ == "__main__":
    main(sys.argv[1:])
