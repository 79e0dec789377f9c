"""A run goes on only under a recipe that asks the same problems."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from configs.jobs.grpo import GRPORecipe
from configs.jobs.mpo import MPORecipe
from configs.jobs.sft import SFTRecipe
from configs.schema.data import ChatDataConfig
from configs.schema.policy import PolicyConfig
from rl.jobs.resume import (
    RESUME_RULES,
    CannotResume,
    changes_to_apply,
    check_unchanged,
    resume_rule,
)
from rl.storage.run_folder import save_recipe
from tests.unit.step_samples import recipe


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_recipe(recipe(seed=3, problems_per_step=4), tmp_path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seed": 4}, "seed was 3, now 4"),
        ({"problems_per_step": 8}, "problems_per_step was 4, now 8"),
        ({"data": {"source": "other.jsonl"}}, "data.source was "),
        ({"data": {"source": "digits", "limit": 7}}, "data.limit was null, now 7"),
        ({"prompt": {"max_tokens": 77}}, "prompt.max_tokens was "),
    ],
)
def test_what_decides_the_problems_may_not_change(
    saved: Path, change: dict[str, Any], told: str
) -> None:
    asked = {"seed": 3, "problems_per_step": 4} | change
    with pytest.raises(CannotResume) as caught:
        changes_to_apply(saved, recipe(**asked))
    assert told in str(caught.value)
    assert f"policy.path={saved.parent / 'policy'}" in str(caught.value)


def test_all_changes_are_told_at_once(saved: Path) -> None:
    with pytest.raises(CannotResume, match=r"problems_per_step was 4, now 5, seed was 3, now 9"):
        changes_to_apply(saved, recipe(seed=9, problems_per_step=5))


def test_what_is_applied_is_named_with_both_values(saved: Path) -> None:
    now = recipe(
        seed=3,
        problems_per_step=4,
        steps=999,
        learner={"optimizer": {"lr": 0.5, "weight_decay": 0.25}},
        data={"source": recipe().data.source, "max_rejected_share": 0.5},
    )
    told = [str(change) for change in changes_to_apply(saved, now)]
    assert [line.split(" was ")[0] for line in told] == [
        "data.max_rejected_share",
        "learner.optimizer.lr",
        "learner.optimizer.weight_decay",
        "steps",
    ]
    assert told[1].endswith("now 0.5")
    assert changes_to_apply(saved, recipe(seed=3, problems_per_step=4)) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"features": {"keep": "memory"}}, "features.keep was 'off', now memory"),
        ({"features": {"max_bytes": 5}}, "features.max_bytes was 8589934592, now 5"),
        ({"features": {"folder": "kept"}}, "features.folder was null, now kept"),
        ({"rollout": {"max_workers": 3}}, "rollout.max_workers was null, now 3"),
        ({"rollout": {"stragglers": "drop"}}, "rollout.stragglers was wait, now drop"),
    ],
)
def test_what_is_kept_of_images_and_who_answers_may_change(
    tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    policy = {"path": "some/model", "train": ["projector"]}  # features are of a frozen tower
    before = {"policy": policy, "max_staleness": 1}  # without staleness nothing may be dropped
    saved = save_recipe(recipe(**before), tmp_path)
    (changed,) = changes_to_apply(saved, recipe(**before, **change))
    assert str(changed) == told


def test_what_comes_to_a_mapping_of_the_users_own_and_what_goes_counts(saved: Path) -> None:
    before = recipe().reward
    fields = before.model_dump() | {"weights": {**before.weights, "length": 0.5}}
    now = recipe(seed=3, problems_per_step=4, reward=fields)
    (change,) = changes_to_apply(saved, now)
    assert change.key == "reward.weights"
    assert str(change).endswith("length: 0.5}")
    with pytest.raises(CannotResume, match=r"reward\.weights was "):
        check_unchanged(saved, now, ("reward",), ())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"learner": {"ranks": 2}}, "learner.ranks was 1, now 2"),
        ({"learner": {"zero_stage": 1}}, "learner.zero_stage was 2, now 1"),
        ({"policy": {"train": ["projector"]}}, "policy.train was "),
        ({"policy": {"dtype": "float32"}}, "policy.dtype was bfloat16, now float32"),
        ({"policy": {"lora": {"rank": 4}}}, "policy.lora was null, now {rank: 4"),
        ({"sample_buffer": {"size": 64}}, "sample_buffer was null, now {size: 64"),
    ],
)
def test_what_the_learners_state_depends_on_may_not_change(
    saved: Path, change: dict[str, Any], told: str
) -> None:
    kept = recipe().policy.model_dump(mode="json")
    if "policy" in change:
        change = {"policy": kept | change["policy"]}
    with pytest.raises(CannotResume) as caught:
        changes_to_apply(saved, recipe(seed=3, problems_per_step=4, **change))
    assert told in str(caught.value)


LANGUAGE_LORA = {"path": "some/model", "train": ["language"], "lora": {"rank": 4}}
"""The reference is the learner without adapters, but where rewards need it."""


@pytest.mark.parametrize(
    ("policy", "before", "now", "fault"),
    [
        ({}, {"coef": 0.0}, {"coef": 0.1}, r"loss\.kl\.coef was 0\.0, now 0\.1 \(answers that"),
        ({}, {"coef": 0.1}, {"coef": 0.2}, None),
        ({}, {"coef": 0.1}, {"coef": 0.0}, None),
        (LANGUAGE_LORA, {"coef": 0.0}, {"coef": 0.1}, None),
        (
            LANGUAGE_LORA,
            {"coef": 0.1},
            {"coef": 0.1, "place": "reward"},
            r"loss\.kl\.place was loss, now reward \(answers that",
        ),
    ],
)
def test_kept_answers_need_what_a_reference_would_have_said_of_them(
    policy: dict[str, Any],
    before: dict[str, Any],
    now: dict[str, Any],
    fault: str | None,
    tmp_path: Path,
) -> None:
    def plan(kl: dict[str, Any], buffer: dict[str, Any] | None) -> GRPORecipe:
        own = {"policy": policy} if policy else {}
        return recipe(**own, loss={"kl": kl}, sample_buffer=buffer)

    kept = save_recipe(plan(before, {}), tmp_path)
    if fault is None:
        changes_to_apply(kept, plan(now, {}))
    else:
        with pytest.raises(CannotResume, match=fault):
            changes_to_apply(kept, plan(now, {}))
    none_kept = save_recipe(plan(before, None), tmp_path)
    changes_to_apply(none_kept, plan(now, None))


def keys_of(schema: type[BaseModel], section: str = "") -> Iterator[tuple[str, bool]]:
    """Every key by its dotted name, and whether it can change as one: a value, or a section that
    may be null."""
    for name, field in schema.model_fields.items():
        kinds = (field.annotation, *get_args(field.annotation))
        inner = [each for each in kinds if isinstance(each, type) and issubclass(each, BaseModel)]
        yield f"{section}{name}", not inner or type(None) in kinds
        for each in inner:
            yield from keys_of(each, f"{section}{name}.")


def test_a_rule_speaks_of_every_key_and_every_rule_of_some() -> None:
    known = {key for schema in (GRPORecipe, SFTRecipe, MPORecipe) for key in keys_of(schema)}
    assert len(known) > 150
    for key, changes in known:
        if changes:
            resume_rule(key)
    assert RESUME_RULES.keys() <= {key for key, _ in known}
    with pytest.raises(KeyError):
        resume_rule("nonsense.key")


def test_a_recipe_of_a_time_without_a_field_can_go_on(saved: Path) -> None:
    lines = saved.read_text("utf-8").splitlines(keepends=True)
    saved.write_text("".join(line for line in lines if not line.startswith("seed:")), "utf-8")
    changes_to_apply(saved, recipe(seed=8, problems_per_step=4))


def test_a_key_of_an_earlier_recipe_counts_by_the_name_that_it_has_now(tmp_path: Path) -> None:
    saved = tmp_path / "recipe.yaml"
    saved.write_text("seed: 0\nbatch: 64\n", "utf-8")
    now = SFTRecipe(
        name="sft",
        policy=PolicyConfig(path="policy"),
        data=ChatDataConfig(source="chats.jsonl"),
        batch_size=32,
    )
    with pytest.raises(CannotResume, match="batch_size was 64, now 32"):
        changes_to_apply(saved, now)
