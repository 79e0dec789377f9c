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

from configs.loading.recipe import load_recipe
from configs.schema.assembly import AssembleRecipe
from rl.console.errors import as_user_error, exit_on_user_error
from rl.console.progress import CONSOLE, phase

_FLAGS = {
    "--dry-run": "Check that the parts fit, show what would be written, and stop.",
    "--help": "Show this and stop.",
}


def main(argv: list[str]) -> None:
    """Plan, and unless it is a dry run write; what does not fit is refused before anything is."""
    command = load_recipe(argv, AssembleRecipe, None, _FLAGS)
    from models.assembly.r1v import plan_assembly, plan_swap
    from models.assembly.shards import plan_line
    from rl.storage.atomic import refuse_existing

    recipe = command.recipe
    with exit_on_user_error(), as_user_error():
        refuse_existing(recipe.out)
        if recipe.base:
            assembly = plan_swap(recipe.base, recipe.llm, recipe.options)
        else:
            assembly = plan_assembly(recipe.vision, recipe.llm, recipe.options)
        added = len(assembly.language.added_ids)
        CONSOLE.print(
            f"{recipe.vision or recipe.base} and {recipe.llm}: {plan_line(assembly.plan)}, "
            f"{added} tokens added, {assembly.config.image_seq_length} tokens a tile",
        )
        if command.dry_run:
            return
        with phase(f"writing {recipe.out}", total=len(assembly.plan)) as written:
            assembly.write(recipe.out, lambda name: written.advance(note=name))


if __name__ == "__main__":
    main(sys.argv[1:])
