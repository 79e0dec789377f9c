"""Runs of stages from a recipe to the table of its policies."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from actors.cluster.ray_session import ray_session
from actors.cluster.shared_folder import check_run_folder
from configs.jobs.pipeline import PipelineRecipe
from configs.jobs.rounds import RoundsRecipe, RoundsSections
from configs.loading.recipe import recipe_text
from rl.console.progress import CONSOLE
from rl.stages.ledger import Figures, Stage, StageLedger
from rl.stages.pipeline import FINAL, MakeParts, Pipeline
from rl.stages.rounds import Rounds
from rl.stages.table import Row, rich_table, write_table
from rl.storage.run_folder import save_recipe

LEDGER = "stages.json"


def rounds_run(recipe: RoundsRecipe) -> None:
    """Run what is not finished of the rounds."""
    rounds = _rounds(recipe)
    _run(recipe, list(rounds.stages()), rounds.ledger, rounds)


def rounds_plan(recipe: RoundsRecipe) -> None:
    """Show what of the rounds is finished and what would run."""
    rounds = _rounds(recipe)
    CONSOLE.print(recipe_text(recipe))
    CONSOLE.print(_plan(rounds.ledger, list(rounds.stages())))


def pipeline_run(recipe: PipelineRecipe, make_parts: MakeParts | None) -> None:
    """Run what is not finished of the whole recipe."""
    pipeline = Pipeline(recipe, StageLedger(recipe.run_folder / LEDGER), make_parts)
    _run(recipe, list(pipeline.stages()), pipeline.ledger, pipeline.rounds)


def pipeline_plan(recipe: PipelineRecipe) -> None:
    """Show what of the whole recipe is finished and what would run."""
    pipeline = Pipeline(recipe, StageLedger(recipe.run_folder / LEDGER), None)
    CONSOLE.print(recipe_text(recipe))
    CONSOLE.print(_plan(pipeline.ledger, list(pipeline.stages())))


def _rounds(recipe: RoundsRecipe) -> Rounds:
    return Rounds(recipe, recipe.start, StageLedger(recipe.run_folder / LEDGER))


def _run(
    recipe: RoundsSections, stages: Sequence[Stage], ledger: StageLedger, rounds: Rounds
) -> None:
    check_run_folder(recipe.run_folder)
    CONSOLE.print(_plan(ledger, stages))
    save_recipe(recipe, recipe.run_folder)

    def told(name: str, figures: Figures) -> None:
        rows = _rows(ledger, rounds)
        if rows and "policy" in figures:
            write_table(recipe.run_folder, recipe.name, rows)
            CONSOLE.print(rich_table(rows))

    with ray_session():
        ledger.run(stages, told)
    CONSOLE.print(f"policies.md and policies.png lie in {recipe.run_folder}")


def _plan(ledger: StageLedger, stages: Sequence[Stage]) -> Table:
    table = Table("stage", "state", "why")
    for state in ledger.states(stages):
        words = "finished" if state.finished else "goes on" if state.resume else "runs"
        table.add_row(state.name, words, state.why)
    return table


def _rows(ledger: StageLedger, rounds: Rounds) -> list[Row]:
    """A row for each policy that was asked."""
    found: dict[str, Mapping[str, Any]] = {}
    if ledger.finished("align"):
        found["align"] = ledger.figures("align")["policy"]
    found |= rounds.policies()
    if ledger.finished(FINAL):
        found["grpo"] = ledger.figures(FINAL)["policy"]
    names = _policy_names(rounds)
    return [Row(names[stage], stage, _seconds(ledger, stage), of) for stage, of in found.items()]


def _policy_names(rounds: Rounds) -> dict[str, str]:
    """What the paper calls the policy that a stage makes."""
    first = 0 if rounds.recipe.rounds[0].threshold == 0 else 1
    learned = {
        f"round_{number}/sft": f"M{number - 1 + first}"
        for number in range(1, len(rounds.recipe.rounds) + 1)
    }
    return {"align": "M'", "swap": "swapped", "start": "start", **learned, "grpo": "GRPO"}


def _seconds(ledger: StageLedger, stage: str) -> float:
    makes = [stage, stage.replace("/sft", "/distill")] if "/" in stage else [stage]
    return sum(ledger.figures(name)["wall_s"] for name in makes if ledger.finished(name))
