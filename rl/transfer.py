"""The paper's transfer on a laptop: align a projector with a substitute, swap in the reasoner.

Pretrains the parts where they are not cached, goes R1V's path (arXiv 2504.05599, section 2.1), and
asks held-out problems, with pictures and in words, at four stations: runs/<name>/summary.json.

    python rl/transfer.py [recipe] [section.key=value ...] [--dry-run] [--help]
"""

import sys
from pathlib import Path

# Python puts rl/ first, where names of ours hide other packages; Ray hands it on to workers.
sys.path[:] = [str(Path(__file__).resolve().parents[1]), *sys.path[1:]]

from configs.jobs.transfer import TransferRecipe
from configs.loading.recipe import Command
from rl.console.command import run_command


def transfer(command: Command[TransferRecipe]) -> None:
    """Go the path that the recipe names."""
    from rl.tiny.transfer import transfer_command

    transfer_command(command.recipe)


def main(argv: list[str]) -> None:
    """Read the command line, and go."""
    flags = ("--dry-run", "--help")
    run_command(argv, TransferRecipe, transfer, default="digits_transfer", flags=flags)


if __name__ == "__main__":
    main(sys.argv[1:])
