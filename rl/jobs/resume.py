"""What a run goes on from, and what a changed recipe does to it: each key is applied, or refused by
name."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

from configs.jobs.grpo import GRPORecipe
from configs.loading import yaml12
from configs.loading.suggest import current_name
from rl.algorithms.sample_buffer import SampleBuffer
from rl.console.errors import UserError
from rl.data.training_problems import TrainingProblems
from rl.storage.checkpoints import Checkpoint
from rl.storage.fingerprint import save_fingerprint

_ORDER = "it decides which rows a step learns from, and some would come twice and others never"
_STATE = "the checkpoint's learner state is of the old value"
_SCHEDULE = "the learning rate's schedule counts updates"
_KEPT = "answers that are kept hold what the old one said of them, or nothing"
_START = "the policy at the start is the reference, and brings the processor"

_APPLIED: str | None = None
RESUME_RULES: dict[str, str | None] = {
    **dict.fromkeys(("seed", "problems_per_step", "batch_size", "data", "prompt"), _ORDER),
    **dict.fromkeys(("data.max_rejected_share", "data.reward_columns"), _APPLIED),
    **dict.fromkeys(("policy.dtype", "policy.train", "policy.lora"), _STATE),
    **dict.fromkeys(("learner.ranks", "learner.zero_stage", "learner.offload"), _STATE),
    "learner.zero_optimization": _STATE,
    **dict.fromkeys(("learner.minibatches", "learner.epochs"), _SCHEDULE),
    **dict.fromkeys(("policy.path", "start"), _START),
    **dict.fromkeys(("policy.trust_remote_code", "policy.vision_attention"), _APPLIED),
    "reference.place": _KEPT,
    "sample_buffer": "the checkpoint holds the answers that the old one kept",
    **dict.fromkeys(
        (
            *("name", "device", "log", "checkpoint", "cluster", "steps", "epochs"),
            *("rollout", "reward", "loss", "reference", "teacher", "learner", "sync"),
            *("preflight", "evaluation", "features", "max_staleness"),
        ),
        _APPLIED,
    ),
}
"""For each section or key, by its dotted name, why a change of it is refused at a resume; None
where the new value is used from the next step on. The longest name that fits a key decides."""


_BUFFER = "sample_buffer.jsonl"
_CURSOR = "problems.json"
"""Files in a checkpoint: the sample buffer, and how far the run has come through its problems."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a checkpoint holds beside the policy: where in its problems the run is, and answers."""

    problems: TrainingProblems
    buffer: SampleBuffer | None

    @classmethod
    def of(
        cls, recipe: GRPORecipe, problems: TrainingProblems, newest: Checkpoint | None
    ) -> "Progress":
        """As the checkpoint left it, or at the start."""
        problems.rewind()
        config = recipe.sample_buffer
        made = cls(problems, SampleBuffer(config, recipe.seed) if config else None)
        if newest:
            asked = newest.step * recipe.problems_per_step
            problems.cursor.restore(newest.folder / _CURSOR, before=asked)
            if made.buffer is not None:
                made.buffer.restore(
                    newest.folder / _BUFFER,
                    problems.with_ids,
                    with_reference=recipe.reference_in == "actor",
                )
        return made

    def save(self, folder: Path) -> None:
        """Write it into a checkpoint's folder."""
        self.problems.cursor.save(folder / _CURSOR)
        save_fingerprint(folder, self.problems.fingerprints)
        if self.buffer is not None:
            self.buffer.save(folder / _BUFFER)


class CannotResume(UserError):
    """A run was to go on under a recipe, or on rows, that do not fit what it did so far."""


class Change(NamedTuple):
    """One key that is not what it was."""

    key: str
    """Its dotted name, or its section's where that came or went."""
    before: Any
    now: Any

    def __str__(self) -> str:
        was, now = (yaml12.to_inline_yaml(value) for value in (self.before, self.now))
        return f"{self.key} was {was}, now {now}"


def changes_to_apply(saved: Path, recipe: BaseModel) -> list[Change]:
    """What of `recipe` differs from the recipe in the file `saved`, once all of it may.

    Keys that either of the two does not have are passed over.

    Raises:
        CannotResume: names each key that may not change, what it was, what it is, why it may not,
            and what to do.
    """
    applied: list[Change] = []
    refused: dict[str, list[str]] = {}
    changes = _changes(saved, recipe)
    rules = _rules_of_kept_answers(recipe, changes)
    for change in changes:
        reason = rules.get(change.key) or resume_rule(change.key)
        if reason is None:
            applied.append(change)
        else:
            refused.setdefault(reason, []).append(str(change))
    if refused:
        told = "; ".join(f"{', '.join(keys)} ({reason})" for reason, keys in refused.items())
        raise CannotResume(
            f"--resume: the run so far was another: {told}. Put the old values back ({saved} has "
            "them), or start a run of another name without --resume from the policy that lies "
            f"beside that file: policy.path={saved.parent / 'policy'}"
        )
    return applied


_KL = "loss.kl."


def _rules_of_kept_answers(recipe: BaseModel, changes: Sequence[Change]) -> dict[str, str]:
    """Why changed keys are refused, by name, since with them a reference begins to read each answer
    when it is scored, and never read those in the sample buffer."""
    if not isinstance(recipe, GRPORecipe) or recipe.sample_buffer is None:
        return {}
    before = {
        change.key: change.before
        for change in changes
        if change.key in (f"{_KL}coef", f"{_KL}place")
    }
    kl = recipe.loss.kl.model_copy(update={k.removeprefix(_KL): v for k, v in before.items()})
    loss = recipe.loss.model_copy(update={"kl": kl})
    read_before = recipe.model_copy(update={"loss": loss}).reference_in == "actor"
    if read_before or recipe.reference_in != "actor":
        return {}
    return dict.fromkeys(before, _KEPT)


def resume_rule(key: str) -> str | None:
    """Why a change of `key` is refused at a resume; None where it is applied.

    Raises:
        KeyError: no rule speaks of it.
    """
    name = key
    while name not in RESUME_RULES:
        name, dot, _ = name.rpartition(".")
        if not dot:
            raise KeyError(key)
    return RESUME_RULES[name]


def check_unchanged(
    saved: Path, recipe: BaseModel, fixed: Sequence[str], free: Sequence[str]
) -> None:
    """Check that what was done under the recipe in the file `saved` counts under `recipe` too.

    Args:
        fixed: dotted names of the sections and keys that may not change.
        free: those within them that may.

    Raises:
        CannotResume: names each key that changed, what it was, what it is, and what to do.
    """
    sections = tuple(f"{each}." for each in fixed)
    changed = [
        str(change)
        for change in _changes(saved, recipe)
        if change.key not in free and (change.key in fixed or change.key.startswith(sections))
    ]
    if changed:
        raise CannotResume(
            f"--resume: what the run did so far was done otherwise: {'; '.join(changed)}. Put the "
            f"old values back ({saved} has them), or start a run of another name without --resume"
        )


def _changes(saved: Path, recipe: BaseModel) -> list[Change]:
    """What changed from the recipe in the file `saved` to `recipe`, by name."""
    tree, _ = yaml12.parse_yaml(saved.read_text("utf-8"), str(saved))
    return sorted(_differences(tree, recipe, recipe.model_dump(mode="json")))


def _differences(
    then: Mapping[str, Any], recipe: BaseModel, now: Mapping[str, Any], section: str = ""
) -> Iterator[Change]:
    """Keys of earlier recipes count by what they are called now; new and old ones do not.

    `now`: `recipe` as it is saved. Only sections are looked into: a user's own mapping, such as
    reward.weights, is one value, so that what came to it and what went counts.
    """
    renamed = {current_name(f"{section}{key}"): value for key, value in then.items()}
    for key, value in now.items():
        name = f"{section}{key}"
        if name not in renamed:
            continue
        before, inner = renamed[name], getattr(recipe, key)
        if isinstance(inner, BaseModel) and isinstance(before, Mapping):
            yield from _differences(before, inner, value, f"{name}.")
        elif before != value:
            yield Change(name, before, value)
