"""Checkpoints put together or rewritten: planned, shown, and then written."""

from configs.jobs.assembly import AssembleRecipe, ConvertRecipe
from models.assembly.conversion import plan_conversion
from models.assembly.r1v import plan_assembly, plan_swap
from models.assembly.shards import plan_line
from rl.console.progress import CONSOLE, phase
from rl.storage.atomic import refuse_existing


def assemble(recipe: AssembleRecipe, *, write: bool) -> None:
    """Join the recipe's parts; without `write` only say what would be written.

    Raises:
        UserError: `out` is there already, or the parts cannot be read or do not fit.
    """
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
    if write:
        with phase(f"writing {recipe.out}", total=len(assembly.plan)) as written:
            assembly.write(recipe.out, lambda name: written.advance(note=name))


def convert(recipe: ConvertRecipe, *, write: bool) -> None:
    """Rewrite the recipe's checkpoint; without `write` only say what would be written.

    Raises:
        UserError: `out` is there already, or the checkpoint cannot be read or has no such layout.
    """
    refuse_existing(recipe.out)
    conversion = plan_conversion(recipe.source, recipe.layout)
    line = f"{recipe.source} as {recipe.layout}: {plan_line(conversion.plan)}"
    for text in (line, *conversion.notes):
        CONSOLE.print(text)
    if write:
        with phase(f"writing {recipe.out}", total=len(conversion.plan)) as written:
            conversion.write(recipe.out, recipe.shard_gib, lambda name: written.advance(note=name))
