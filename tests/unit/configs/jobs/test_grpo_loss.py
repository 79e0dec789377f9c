"""The loss of a recipe is whole, or refused with the reason."""

from typing import Any

import pytest
from pydantic import ValidationError

from configs.jobs.grpo import GRPORecipe
from tests.unit.step_samples import recipe


def test_a_reference_beside_the_learner_reads_what_a_reward_needs() -> None:
    adapters = {"path": "some/model", "train": ["language"], "lora": {"rank": 4}}
    penalty = {"coef": 0.1, "place": "reward"}
    assert recipe(policy=adapters, loss={"kl": {"coef": 0.1}}).reference_in == "base"
    for parts, where in ((["projector"], "base"), (["projector", "vision"], "actor")):
        policy = {"path": "some/model", "train": parts}
        assert recipe(policy=policy, loss={"kl": {"coef": 0.1}}).reference_in == where
    assert recipe(policy=adapters, loss={"kl": penalty}).reference_in == "actor"
    with pytest.raises(ValidationError, match=r"set reference\.place=actor"):
        recipe(loss={"kl": penalty}, reference={"place": "learner"})


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"loss": {"kl": {"coef": 0.1}}}, "it has a GPU of its own"),
        ({"reference": {"place": "learner"}}, r"loss\.kl\.coef=0 starts none"),
        (
            {
                "policy": {"path": "some/model", "train": ["language"], "lora": {"rank": 4}},
                "loss": {"kl": {"coef": 0.1}},
            },
            "with what learns as it began",
        ),
    ],
)
def test_only_a_reference_that_is_a_copy_on_the_learner_ranks_is_offloaded(
    fields: dict[str, Any], why: str
) -> None:
    beside = {"place": "learner", "offload": True}
    assert recipe(loss={"kl": {"coef": 0.1}}, reference=beside).reference_in == "shards"
    away = {"reference": {**fields.get("reference", {}), "offload": True}}
    with pytest.raises(ValidationError, match=why):
        recipe(**fields | away)


def test_length_costs_nothing_to_some_answers_where_it_counts() -> None:
    def made(weight: float, overlong: int) -> GRPORecipe:
        reward = {"weights": {"exact": 0.9, "length": weight}, "accuracy": "exact"}
        return recipe(
            reward=reward | {"overlong_tokens": overlong}, rollout={"max_new_tokens": 128}
        )

    assert made(0.1, 128).reward.overlong_tokens == 128
    assert made(0.0, 1024).reward.weights["length"] == 0
    with pytest.raises(ValidationError, match=r"overlong_tokens=1024 .* such as 32"):
        made(0.1, 1024)


def test_there_are_no_more_updates_than_groups() -> None:
    assert recipe(problems_per_step=4, learner={"minibatches": 4}).learner.updates_per_step == 4
    with pytest.raises(ValidationError, match="at most as many updates as problems"):
        recipe(problems_per_step=4, learner={"minibatches": 5})


@pytest.mark.parametrize("older", [{"max_staleness": 1}, {"sample_buffer": {}}])
def test_answers_of_an_older_policy_are_corrected_by_one_ratio_or_the_other(
    older: dict[str, Any],
) -> None:
    for loss in ({"old_policy": "sampler"}, {"old_policy": "learner", "importance": {}}):
        recipe(loss=loss, **older)
    with pytest.raises(ValidationError, match=r"add loss\.importance, or set old_policy=sampler"):
        recipe(loss={"old_policy": "learner"}, **older)
