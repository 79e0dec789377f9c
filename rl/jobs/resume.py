"""What a resumed run may not change: which problems are asked, and what a step means for that."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from configs.loading import yaml12
from configs.loading.suggest import current_name
from rl.console.errors import UserError

_FIXED = ("seed", "problems_per_step", "batch_size", "data", "prompt")
"""Sections and fields that decide the problems, or chats, of a step."""
_FREE = ("data.max_rejected_share", "data.reward_columns")
"""Fields of those sections that do not."""


class ChangedProblems(UserError):
    """A run was to go on under a recipe that asks other problems than the one it began with."""


def check_same_problems(saved: Path, recipe: BaseModel) -> None:
    """Check that `recipe` asks the problems that the recipe in the file `saved` asked.

    Fields that either of the two does not have are passed over.

    Raises:
        ChangedProblems: names each field, what it was, what it is, and what to do.
    """
    if changed := changed_fields(saved, recipe, _FIXED, _FREE):
        raise ChangedProblems(
            f"--resume: the recipe would ask other problems than the run did so far: "
            f"{'; '.join(changed)}. Put the old values back ({saved} has them), or start "
            "a run of another name without --resume from the policy that lies beside that file: "
            f"policy.path={saved.parent / 'policy'}"
        )


def check_unchanged(
    saved: Path, recipe: BaseModel, fixed: Sequence[str], free: Sequence[str]
) -> None:
    """Check that what was done under the recipe in the file `saved` counts under `recipe` too.

    Raises:
        UserError: names each field that changed, what it was, what it is, and what to do.
    """
    if changed := changed_fields(saved, recipe, fixed, free):
        raise UserError(
            f"--resume: what the run did so far was done otherwise: {'; '.join(changed)}. Put the "
            f"old values back ({saved} has them), or start a run of another name without --resume"
        )


def changed_fields(
    saved: Path, recipe: BaseModel, fixed: Sequence[str], free: Sequence[str]
) -> list[str]:
    """What changed from the recipe in the file `saved` to `recipe`, each as a phrase.

    Args:
        fixed: dotted names of the sections and fields that are looked at.
        free: those within them that are not.
    """
    tree, _ = yaml12.parse_yaml(saved.read_text("utf-8"), str(saved))
    then, now = dict(_fields(tree)), dict(_fields(recipe.model_dump(mode="json")))

    def decides(name: str) -> bool:
        sections = tuple(f"{each}." for each in fixed)
        return name not in free and (name in fixed or name.startswith(sections))

    return sorted(
        f"{name} was {yaml12.to_inline_yaml(then[name])}, now {yaml12.to_inline_yaml(now[name])}"
        for name in now.keys() & then.keys()
        if now[name] != then[name] and decides(name)
    )


def _fields(tree: Mapping[str, Any], section: str = "") -> Iterator[tuple[str, Any]]:
    """Every value with its dotted name; keys of earlier recipes by what they are called now."""
    for key, value in tree.items():
        name = f"{section}{key}"
        if isinstance(value, Mapping):
            yield from _fields(value, f"{name}.")
        else:
            yield current_name(name), value
