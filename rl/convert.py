"""Rewrites a checkpoint from the `*ChatModel` layout of Skywork R1V and InternVL to transformers'
InternVL, or back.

    python rl/convert.py source=FOLDER out=FOLDER layout=transformers|skywork|internvl [--dry-run]

Weights go from file to file, bit for bit. What the other layout cannot hold is named and refused.
"""

import sys
from pathlib import Path

# Python puts rl/ first, where names of ours hide other packages; Ray hands it on to workers.
sys.path[:] = [str(Path(__file__).resolve().parents[1]), *sys.path[1:]]

from configs.loading.recipe import load_recipe
from configs.schema.assembly import ConvertRecipe
from rl.console.errors import as_user_error, exit_on_user_error
from rl.console.progress import CONSOLE, phase

_FLAGS = {
    "--dry-run": "Check that all of it has a place, show what would be written, and stop.",
    "--help": "Show this and stop.",
}


def main(argv: list[str]) -> None:
    """Plan, and unless it is a dry run write; what has no place is refused before anything is."""
    command = load_recipe(argv, ConvertRecipe, None, _FLAGS)
    from models.assembly.conversion import plan_conversion
    from models.assembly.shards import plan_line
    from rl.storage.atomic import refuse_existing

    recipe = command.recipe
    with exit_on_user_error(), as_user_error():
        refuse_existing(recipe.out)
        conversion = plan_conversion(recipe.source, recipe.layout)
        line = f"{recipe.source} as {recipe.layout}: {plan_line(conversion.plan)}"
        for text in (line, *conversion.notes):
            CONSOLE.print(text)
        if command.dry_run:
            return
        with phase(f"writing {recipe.out}", total=len(conversion.plan)) as written:
            conversion.write(recipe.out, recipe.shard_gib, lambda name: written.advance(note=name))


if __name__ == "__main__":
    main(sys.argv[1:])
