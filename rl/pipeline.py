"""R1V's whole path in one run: parts, align, swap, rounds of distillation and SFT, GRPO.

    python rl/pipeline.py [recipe] [section.key=value ...] [--dry-run] [--help]

Run again, it goes on where it was; --dry-run tells what is finished and what a changed recipe would
run again. The table of all policies: policies.md and policies.png in the run's folder.
"""

import sys
from pathlib import Path

# Python puts rl/ first, where names of ours hide other packages; Ray hands it on to workers.
sys.path[:] = [str(Path(__file__).resolve().parents[1]), *sys.path[1:]]

from configs.jobs.pipeline import PipelineRecipe
from configs.loading.recipe import Command
from rl.console.command import run_command


def pipeline(command: Command[PipelineRecipe]) -> None:
    """Run the stages that are not finished."""
    from rl.stages.runs import pipeline_run
    from rl.tiny.parts import tiny_parts_of

    recipe = command.recipe
    start = recipe.start
    pipeline_run(recipe, (lambda: tiny_parts_of(start, recipe.seed)) if start else None)


def main(argv: list[str]) -> None:
    """Run the whole recipe."""
    from rl.stages.runs import pipeline_plan

    flags = ("--dry-run", "--help")
    run_command(
        argv,
        PipelineRecipe,
        pipeline,
        default="digits_pipeline",
        dry_run=pipeline_plan,
        flags=flags,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
