"""Images and answers against the context: what a prompt has room for."""

from dataclasses import dataclass

from actors.cluster.plan import Recipe
from configs.jobs.sft import SupervisedRecipe
from models.policy.memory import MemoryEstimator
from rl.planning.memory import longest_row

_TILES = 13
"""Most tiles that InternVL's processors cut an image into, its thumbnail among them."""
_MARKS = 2
"""Tokens around an image."""


@dataclass(frozen=True, slots=True)
class Context:
    """What was found."""

    note: str
    faults: tuple[str, ...] = ()


def context_of(recipe: Recipe, shape: MemoryEstimator) -> Context:
    """How the recipe's longest row and its images fit the policy's context."""
    longest, positions = longest_row(recipe), shape.longest_context
    faults: list[str] = []
    # Chats may stay far below what is allowed; engines make room for all of it, and would refuse.
    if not isinstance(recipe, SupervisedRecipe) and positions and longest > positions:
        faults.append(
            f"prompt.max_tokens={recipe.prompt.max_tokens} and rollout.max_new_tokens="
            f"{recipe.rollout.max_new_tokens} allow rows of {longest:,} tokens, and the policy has "
            f"{positions:,} positions"
        )
    images = _images(recipe, shape)
    of = f" of the policy's {positions:,}" if positions else ""
    note = f"context: rows of up to {longest:,} tokens{of}; {images.note}"
    return Context(note, (*faults, *images.faults))


def _images(recipe: Recipe, shape: MemoryEstimator) -> Context:
    prompt, area = recipe.prompt, shape.pixels_per_image_token
    if not area:
        return Context("no images")
    limit = f"prompt.max_tokens={prompt.max_tokens:,}"
    if tile := shape.tokens_per_tile:
        most = _TILES * tile + _MARKS
        note = f"an image takes {tile + _MARKS:,} to {most:,} of {limit}"
        if tile + _MARKS > prompt.max_tokens:
            return Context(note, (f"{note}, so no image fits",))
        return Context(note)
    if prompt.max_pixels is None:
        pixels = prompt.max_tokens * area
        return Context(f"an image takes a token for {area:,} pixels, and {pixels:,} fill {limit}")
    most = prompt.max_pixels // area + _MARKS
    note = f"an image of prompt.max_pixels={prompt.max_pixels:,} takes {most:,} tokens of {limit}"
    return Context(note, (note,) if most > prompt.max_tokens else ())
