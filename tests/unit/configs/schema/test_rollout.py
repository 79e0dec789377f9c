"""What a recipe may say of how tokens are drawn."""

import pytest
from pydantic import ValidationError

from configs.schema.rollout import DistributionConfig, RolloutConfig, SamplingConfig
from tests.unit.step_samples import recipe


def test_what_ends_an_answer_cuts_nothing() -> None:
    own = RolloutConfig(temperature=0.5, stop=("END",)).distribution
    assert own == DistributionConfig(temperature=0.5) and not own.is_cut
    assert RolloutConfig(top_p=0.9).is_cut


@pytest.mark.parametrize(
    ("rollout", "fault"),
    [
        ({"repetition_penalty": 1.1}, "the learner does not rebuild that"),
        ({"top_k": 1}, "all answers of a group would be the same"),
        ({"stop": [""]}, "at least 1 character"),
        ({"top_p": 0.0}, "greater than 0"),
        ({"min_p": 1.0}, "less than 1"),
        (
            {"routing_replay": True, "engine_args": {"enable_prefix_caching": False}},
            "tells none without; leave enable_prefix_caching out",
        ),
    ],
)
def test_what_a_learner_could_not_use_is_refused(rollout: dict[str, object], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        recipe(rollout=rollout)


def test_evaluation_may_draw_as_training_may_not() -> None:
    made = recipe(evaluation={"sampling": {"temperature": 0.6, "repetition_penalty": 1.05}})
    assert made.evaluation.sampling == SamplingConfig(temperature=0.6, repetition_penalty=1.05)


def test_a_run_starts_with_no_more_workers_than_it_may_have() -> None:
    assert RolloutConfig(workers=2, max_workers=2).max_workers == 2
    with pytest.raises(ValueError, match=r"max_workers=1 is less than workers=2"):
        RolloutConfig(workers=2, max_workers=1)
