"""The supervised runs that tests look at, by few workers: starting those is what costs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.jobs.mpo import MPORecipe
from configs.jobs.sft import AlignRecipe, SFTRecipe
from rl.jobs.sft import sft_runs
from tests.families import FAMILIES
from tests.ray.chats import align_recipe, chat_file, mpo_recipe, sft_recipe

SHARDINGS: dict[str, dict[str, Any]] = {
    "zero 0": {"learner": {"zero_stage": 0}},
    "zero 1": {"learner": {"zero_stage": 1}},
    "zero 2": {"learner": {"zero_stage": 2, "gradient_checkpointing": True}},
    # Then a rank often reads text alone while the other has a picture.
    "zero 3, unpacked": {"learner": {"zero_stage": 3, "packing": False}},
    "zero 3": {"learner": {"zero_stage": 3}},
    "zero 3, features kept": {"learner": {"zero_stage": 3}, "features": {"keep": "memory"}},
    "zero 2, rows shared": {"learner": {"zero_stage": 2, "sequence_parallel_size": 2}},
    "zero 3, unpacked rows shared": {
        "learner": {"zero_stage": 3, "packing": False, "sequence_parallel_size": 2},
        "features": {"keep": "memory"},
    },
}
ALONE: dict[str, dict[str, Any]] = {
    "alone": {"learner": {"zero_stage": 2}},
    "alone, small packs": {"learner": {"zero_stage": 2, "max_tokens_per_microbatch": 80}},
}
PREFERRED: dict[str, dict[str, Any]] = {
    "pairs, zero 3": {"learner": {"ranks": 2, "zero_stage": 3}},
    "pairs, features kept": {"learner": {"ranks": 2}, "features": {"keep": "memory"}},
    "pairs, rows shared": {"learner": {"ranks": 2, "sequence_parallel_size": 2}},
    "pairs alone": {"learner": {"packing": False}},
    "pairs": {},
}
OTHER_FAMILIES: dict[str, dict[str, Any]] = {
    "qwen2.5-vl": {},
    "qwen2.5-vl, rows shared": {"sequence_parallel_size": 2},
    "llava": {},
}
LONG = "long chats"
DISTURBED_CHATS = 60


@dataclass(frozen=True)
class Lessons:
    """What was learned."""

    recipes: dict[str, SFTRecipe]
    aligned: AlignRecipe
    preferred: dict[str, MPORecipe]
    """Learned from pairs."""
    handed_on: Path
    """The policy of the last pass, as the run itself names it."""


def learn_all(policy: Path, folder: Path) -> Lessons:
    """Each sharding, each other family and a longer run by two workers; others by one."""
    two = _recipes(policy, folder, 2, SHARDINGS)
    two["undisturbed"] = disturbed(policy, folder, "undisturbed")
    two |= {kind: _of_family(kind, folder, own) for kind, own in OTHER_FAMILIES.items()}
    two[LONG] = _long(policy, folder)
    preferred = {
        name: mpo_recipe(policy, folder, name=name, **changes)
        for name, changes in PREFERRED.items()
    }
    of_two = [own for own in preferred.values() if own.learner.ranks == 2]
    sft_runs([*two.values(), *of_two])

    one = _recipes(policy, folder, 1, ALONE)
    aligned = _aligned(policy, folder)
    of_one = [own for own in preferred.values() if own.learner.ranks == 1]
    *_, handed_on = sft_runs([*one.values(), *of_one, aligned])
    return Lessons(two | one, aligned, preferred, handed_on)


def _recipes(policy: Path, folder: Path, ranks: int, kinds: dict[str, Any]) -> dict[str, SFTRecipe]:
    made: dict[str, SFTRecipe] = {}
    for name, changes in kinds.items():
        learner = changes["learner"] | {"ranks": ranks}
        limits = {"max_tokens": min(128, learner.get("max_tokens_per_microbatch", 128))}
        told = changes | {"learner": learner, "name": name, "prompt": limits}
        made[name] = sft_recipe(policy, folder, **told)
    return made


def disturbed(policy: Path, folder: Path, name: str) -> SFTRecipe:
    """Fifteen steps by two workers that may be started again once."""
    return sft_recipe(
        policy,
        folder,
        name=name,
        batch_size=4,
        data={"source": str(chat_file(folder, DISTURBED_CHATS))},
        learner={"ranks": 2, "zero_stage": 2, "restarts": 1},
        checkpoint={"every": 4, "keep": 2},
    )


def _aligned(policy: Path, folder: Path) -> AlignRecipe:
    """Two passes, the first of which sees every chat."""
    chats = {"source": str(chat_file(folder, 22))}
    passes = [{"data": chats, "steps": 3, "lr": 1e-2}, {"data": chats, "steps": 2, "lr": 1e-4}]
    held_out = {"data": {"source": str(chat_file(folder, 6))}}
    return align_recipe(policy, folder, name="aligned", passes=passes, evaluation=held_out)


def diverging(policy: Path, folder: Path) -> SFTRecipe:
    """Two workers whose first update makes numbers that are not finite."""
    wild = {"optimizer": {"lr": 1e30, "schedule": "constant", "warmup_ratio": 0.0}, "ranks": 2}
    return sft_recipe(policy, folder, name="diverged", batch_size=2, learner=wild)


def _long(policy: Path, folder: Path) -> SFTRecipe:
    """A step on chats so long that they attend by spans, their weights sharded."""
    data = {"source": str(chat_file(folder, 22, sums=40))}
    learner = {"ranks": 2, "zero_stage": 3, "gradient_checkpointing": True}
    learner |= {"max_tokens_per_microbatch": 1024, "optimizer": {"lr": 1e-3, "warmup_ratio": 0.0}}
    limits = {"max_tokens": 512}
    return sft_recipe(policy, folder, name=LONG, steps=1, data=data, prompt=limits, learner=learner)


def _of_family(kind: str, folder: Path, own: dict[str, Any]) -> SFTRecipe:
    family, _, _ = kind.partition(",")
    if not (folder / family).is_dir():
        FAMILIES[family](folder / family)
    learner = {"zero_stage": 3, "ranks": 2, "optimizer": {"lr": 1e-3, "warmup_ratio": 0.0}} | own
    return sft_recipe(folder / family, folder, name=kind, steps=1, learner=learner)
