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
    drawn = {"temperature": 0.6, "repetition_penalty": 1.05}
    made = recipe(evaluation={"data": {"source": "held_out.parquet"}, "sampling": drawn})
    assert made.evaluation.sampling == SamplingConfig(temperature=0.6, repetition_penalty=1.05)
    with pytest.raises(ValidationError, match="there are no held-out problems to answer"):
        recipe(evaluation={"sampling": drawn})


def test_further_problems_that_round_to_none_are_refused() -> None:
    recipe(problems_per_step=4, rollout={"dynamic_sampling": {"max_extra": 0.25}})
    with pytest.raises(ValidationError, match=r"set max_extra to 0\.25 or more"):
        recipe(problems_per_step=4, rollout={"dynamic_sampling": {"max_extra": 0.01}})


def test_what_to_do_about_repetition_can_be_done() -> None:
    with pytest.raises(ValidationError, match=r"reward\.weights: \{repetition: 0\.1\}"):
        recipe(rollout={"repetition_penalty": 1.1})
    weights = {"exact": 1.0, "repetition": 0.1}
    assert recipe(reward={"weights": weights, "accuracy": "exact"}).reward.weights == weights


def test_a_run_starts_with_no_more_workers_than_it_may_have() -> None:
    assert RolloutConfig(workers=2, max_workers=2).max_workers == 2
    with pytest.raises(ValueError, match=r"max_workers=1 is less than workers=2"):
        RolloutConfig(workers=2, max_workers=1)
