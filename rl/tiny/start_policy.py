"""The laptop's start policy, made on R1V's path from parts that are pretrained here, and cached.

Its last fine-tuning teaches plain answers and thoughts by turns, so that the policy can do both and
likes neither better: that thinking pays is left for GRPO to find.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from configs.jobs.grpo import GRPORecipe
from configs.schema.run import SFTLogConfig
from configs.schema.tiny import TinyPathConfig
from models.assembly import r1v
from models.tiny import model as tiny
from rl.digits import chats
from rl.storage.cache import cache_folder, code_digest, get_or_build
from rl.tiny import parts, pipeline
from rl.tiny.parts import cached_parts, tiny_parts_of
from rl.tiny.pipeline import FineTuneStage, TinyPipeline


def start_policy_folder(recipe: GRPORecipe) -> Path:
    """Where this recipe's start policy lies, or will: named by all that decides it."""
    path = recipe.start or TinyPathConfig()
    code = (parts.__file__, pipeline.__file__, chats.__file__, r1v.__file__)
    made_of = cached_parts(path.parts, recipe.seed)
    name = code_digest(code, path, recipe.seed, _reads_text_only(recipe), made_of)
    return cache_folder() / "policies" / name


def untrained_policy(recipe: GRPORecipe) -> Path:
    """An untrained policy with the start policy's tokenizer and processor, made in no time."""
    build = tiny.build_tiny_text if _reads_text_only(recipe) else tiny.build_tiny_vlm
    folder = start_policy_folder(recipe).with_suffix(".blank")
    return get_or_build(folder, lambda aside: build(aside, recipe.seed))


def make_start_policy(recipe: GRPORecipe) -> Path:
    """Go the path in the Ray session that is open; returns the cached checkpoint.

    What the steps on the way leave lies in `start/` of the run's folder.
    """
    assert recipe.start is not None, "the schema wants a start where policy.path is empty"
    log = SFTLogConfig(folder=recipe.run_folder / "start", wandb=False)
    path = TinyPipeline(recipe.start, recipe.seed, log)
    made_of = tiny_parts_of(recipe.start.parts, recipe.seed)
    if _reads_text_only(recipe):
        taught = path.fine_tune(
            made_of.reasoner, FineTuneStage("sft", "digits-text-styles", ("language",))
        )
    else:
        (taught,) = path.run(
            made_of, FineTuneStage("sft", "digits-styles", ("projector", "language"))
        )

    def fill(aside: Path) -> None:
        shutil.copytree(taught, aside, dirs_exist_ok=True)

    return get_or_build(start_policy_folder(recipe), fill)


@dataclass(frozen=True, slots=True)
class TinyStartPolicy:
    """The laptop's policy as what a GRPO run starts from."""

    recipe: GRPORecipe

    @property
    def folder(self) -> Path:
        """Where it is cached, or will be."""
        return start_policy_folder(self.recipe)

    def untrained(self) -> Path:
        """See `untrained_policy`."""
        return untrained_policy(self.recipe)

    def make(self) -> Path:
        """See `make_start_policy`."""
        return make_start_policy(self.recipe)


def start_policy(recipe: GRPORecipe) -> TinyStartPolicy | None:
    """What a recipe without `policy.path` starts from; None where it names a policy."""
    return None if recipe.policy.path else TinyStartPolicy(recipe)


def _reads_text_only(recipe: GRPORecipe) -> bool:
    return all(data.image_column is None for data in recipe.data.sources.values())
