"""A stage of a longer run leaves to the run what is the run's, and says so where it does not."""

from typing import Any

import pytest
from pydantic import ValidationError

from configs.jobs.pipeline import PipelineRecipe
from configs.jobs.rounds import PAPER_ROUNDS, RoundsRecipe

DATA = {"source": "rows.parquet"}
CHATS = {"source": "chats.parquet"}


def rounds(**changes: Any) -> RoundsRecipe:
    fields: dict[str, Any] = {
        "name": "trial",
        "start": "some/model",
        "distill": {"data": DATA},
        "sft": {},
        "held_out": {"sets": {"all": DATA}},
    }
    return RoundsRecipe.model_validate(fields | changes)


def pipeline(**changes: Any) -> PipelineRecipe:
    fields: dict[str, Any] = {
        "name": "trial",
        "distill": {"data": DATA},
        "sft": {},
        "held_out": {"sets": {"all": DATA}},
        "align": {"passes": [{"data": CHATS}]},
        "grpo": {},
    }
    return PipelineRecipe.model_validate(fields | changes)


def test_the_rounds_are_the_paper_s_unless_the_recipe_says_others() -> None:
    assert rounds().rounds == PAPER_ROUNDS
    assert [one.threshold for one in PAPER_ROUNDS] == [2, 3, 4, 5]
    assert [one.lr for one in PAPER_ROUNDS] == [1e-4, 2e-5, 2e-5, 2e-5]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sft": {"seed": 3}}, "seed is the whole run's to say"),
        ({"sft": {"name": "mine"}}, "name is the whole run's to say"),
        ({"distill": {"data": DATA, "policy": {"path": "x"}}}, "policy.path is handed on"),
        ({"sft": {"data": CHATS}}, "data is handed on by the stage before"),
        ({"sft": {"epochs": 2}}, "each round's to say: rounds.epochs"),
        ({"sft": {"steps": 2}}, "each round's to say: rounds.epochs"),
        ({"sft": {"learner": {"optimizer": {"lr": 0.1}}}}, "each round's to say: rounds.lr"),
        ({"rounds": []}, "at least 1 item"),
        ({"held_out": {"sets": {}}}, "at least 1 item"),
    ],
)
def test_what_a_stage_may_not_say_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        rounds(**changes)


def test_parts_are_all_named_or_all_made() -> None:
    named = {"vision": "a", "substitute": "b", "reasoner": "c"}
    pipeline(parts=named)
    pipeline(start={})
    with pytest.raises(ValidationError, match="must all be named, or a start section"):
        pipeline(parts=named | {"vision": ""})
    with pytest.raises(ValidationError, match="leave one of the two out"):
        pipeline(parts=named, start={})
