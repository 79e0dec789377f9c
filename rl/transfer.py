"""The paper's transfer on a laptop: align a projector with a substitute, swap in the reasoner.

Pretrains the parts where they are not cached, goes R1V's path (arXiv 2504.05599, section 2.1), and
asks held-out problems, with pictures and in words, at four stations: runs/<name>/summary.json.

    python rl/transfer.py [recipe] [section.key=value ...] [--dry-run] [--help]
"""

import sys
from pathlib import Path

# Python puts rl/ first, where names of ours hide other packages; Ray hands it on to workers.
sys.path[:] = [str(Path(__file__).resolve().parents[1]), *sys.path[1:]]


def main(argv: list[str]) -> None:
    """Go the path that the recipe names."""
    from configs.loading.recipe import FLAGS, RECIPES, load_recipe, recipe_text
    from configs.schema.transfer import TransferRecipe
    from rl.console.errors import exit_on_user_error
    from rl.console.progress import CONSOLE

    flags = {flag: meaning for flag, meaning in FLAGS.items() if flag != "--resume"}
    command = load_recipe(argv, TransferRecipe, RECIPES / "digits_transfer.yaml", flags)
    with exit_on_user_error():
        if command.dry_run:
            CONSOLE.print(recipe_text(command.recipe))
            return
        from rl.tiny.transfer import transfer_command

        transfer_command(command.recipe)


if __name__ == "__main__":
    main(sys.argv[1:])
