"""Changes of a recipe that let it need less, in the order of what they cost the run."""

from collections.abc import Iterator
from itertools import combinations
from typing import Any, cast

from actors.cluster.plan import Recipe
from configs.jobs.generate import GenerationRecipe
from configs.jobs.grpo import GRPORecipe
from configs.jobs.sft import SupervisedRecipe
from configs.jobs.stage import StageOfARun
from configs.loading import yaml12

Changes = dict[str, Any]
"""New values by the dotted names of their keys."""
_GROUPS = (1, 2, 4, 8)
"""Ranks that share rows."""
_SHARES = (0.6, 0.5, 0.4, 0.3, 0.7, 0.8, 0.9, 0.95)


def changes_to_try(recipe: Recipe) -> Iterator[Changes]:
    """Each change of one key, then of two, then of three by the largest step of each alone."""
    steps = list(_steps(recipe))
    largest = list({tuple(step): step for step in steps}.values())
    for count, among in ((1, steps), (2, steps), (3, largest)):
        for chosen in combinations(among, count):
            changes = {key: value for step in chosen for key, value in step.items()}
            if len(changes) == sum(len(step) for step in chosen):
                yield changes


def changed(recipe: Recipe, changes: Changes) -> Recipe:
    """The recipe with `changes`. ValidationError where they do not go together."""
    tree = recipe.model_dump()
    for key, value in changes.items():
        *sections, last = key.split(".")
        section = tree
        for name in sections:
            section = section[name]
        section[last] = value
    # A stage has been told already what the whole run decides, which it would refuse anew.
    schemas = (kind for kind in type(recipe).__mro__ if not issubclass(kind, StageOfARun))
    return cast("type[Recipe]", next(schemas)).model_validate(tree)


def in_words(changes: Changes) -> str:
    """As a command line has them."""
    return " ".join(f"{key}={yaml12.to_inline_yaml(value)}" for key, value in changes.items())


def _steps(recipe: Recipe) -> Iterator[Changes]:
    """Steps that cost nothing but time or memory elsewhere first, those that change what is
    learned or how many learn last."""
    if not isinstance(recipe, GenerationRecipe):
        yield from _learner_steps(recipe)
    if isinstance(recipe, GRPORecipe) and recipe.reference_in == "actor":
        yield {"reference.place": "learner"}
    if isinstance(recipe, GRPORecipe) and recipe.reference_in == "shards":
        yield {"reference.offload": not recipe.reference.offload}
    if not isinstance(recipe, SupervisedRecipe):
        yield from _engine_steps(recipe)
    if not isinstance(recipe, GenerationRecipe):
        yield from _counts(recipe, "learner", "ranks", more=True)
    yield from _context_steps(recipe)


def _learner_steps(recipe: GRPORecipe | SupervisedRecipe) -> Iterator[Changes]:
    learner = recipe.learner
    for stage in range(learner.zero_stage + 1, 4):
        yield {"learner.zero_stage": stage}
    if learner.offload:
        yield {"learner.offload": False}
    if not learner.gradient_checkpointing:
        yield {"learner.gradient_checkpointing": True}
    for divisor in (2, 4):
        yield {"learner.max_tokens_per_microbatch": learner.max_tokens_per_microbatch // divisor}
    if learner.logprob_chunk > 256:
        yield {"learner.logprob_chunk": 256}
    now = learner.sequence_parallel_size
    more, fewer = [n for n in _GROUPS if n > now], [n for n in _GROUPS if n < now]
    for size in (*more, *reversed(fewer)):
        yield {"learner.sequence_parallel_size": size}
    yield from _counts(recipe, "learner", "cpus_per_rank")
    if isinstance(recipe, GRPORecipe) and recipe.engines_sleep:
        yield {"sync.offload_optimizer": not recipe.sync.offload_optimizer}
    if not learner.offload:
        yield {"learner.offload": True}


def _engine_steps(recipe: GRPORecipe | GenerationRecipe) -> Iterator[Changes]:
    rollout = recipe.rollout
    shared = isinstance(recipe, GRPORecipe) and recipe.sync.shared_gpu
    for share in _SHARES:
        if shared == (share <= 0.8) and share != rollout.gpu_memory_utilization:
            yield {"rollout.gpu_memory_utilization": share}
    yield from _counts(recipe, "reward", "processes")
    yield from _counts(recipe, "reward", "workers")
    width, workers = rollout.tensor_parallel_size, rollout.workers
    for wider in (2 * width, 4 * width, 8 * width):
        # On as many GPUs as before, or, where there are too few engines, on more.
        fewer = max(1, workers * width // wider)
        yield {"rollout.tensor_parallel_size": wider, "rollout.workers": fewer}
    if shared:  # as many devices of engines as ranks
        for narrower in _below(width):
            more = workers * width // narrower
            yield {"rollout.tensor_parallel_size": narrower, "rollout.workers": more}
        for count in (*_below(workers), 2 * workers, 4 * workers, 8 * workers):
            yield {"rollout.workers": count, "learner.ranks": count * width}
        return
    for narrower in _below(width):
        yield {"rollout.tensor_parallel_size": narrower}
    yield from _counts(recipe, "rollout", "workers")


def _context_steps(recipe: Recipe) -> Iterator[Changes]:
    prompt = recipe.prompt
    if prompt.max_pixels is not None:
        for divisor in (2, 4, 8):
            yield {"prompt.max_pixels": prompt.max_pixels // divisor}
    for divisor in (2, 4):
        yield {"prompt.max_tokens": prompt.max_tokens // divisor}
        if not isinstance(recipe, SupervisedRecipe):
            yield {"rollout.max_new_tokens": recipe.rollout.max_new_tokens // divisor}


def _counts(recipe: Recipe, section: str, key: str, more: bool = False) -> Iterator[Changes]:
    """Fewer, the most of them first; `more`: then twice and four times as many."""
    count = int(getattr(getattr(recipe, section), key))
    values = [*_below(count), *((2 * count, 4 * count, 8 * count) if more else ())]
    yield from ({f"{section}.{key}": value} for value in values)


def _below(count: int) -> list[int]:
    """Smaller numbers: each of the next eight, then halves."""
    near = list(range(count - 1, max(0, count - 9), -1))
    below, half = near, (near[-1] if near else 1) // 2
    while half >= 1:
        below.append(half)
        half //= 2
    return below
