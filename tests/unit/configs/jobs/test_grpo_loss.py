"""The loss of a recipe is whole, or refused with the reason."""

import pytest
from pydantic import ValidationError

from tests.unit.step_samples import recipe


def test_a_reference_beside_the_learner_reads_what_a_reward_needs() -> None:
    adapters = {"path": "some/model", "train": ["language"], "lora": {"rank": 4}}
    penalty = {"coef": 0.1, "place": "reward"}
    assert recipe(policy=adapters, loss={"kl": {"coef": 0.1}}).reference_in == "base"
    assert recipe(policy=adapters, loss={"kl": penalty}).reference_in == "actor"
    with pytest.raises(ValidationError, match=r"set reference\.place=actor"):
        recipe(loss={"kl": penalty}, reference={"place": "learner"})
