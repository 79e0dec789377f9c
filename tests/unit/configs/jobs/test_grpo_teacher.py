"""A recipe with a teacher is whole, or refused with the reason."""

import pytest
from pydantic import ValidationError

from tests.unit.step_samples import recipe


def test_a_teacher_and_a_loss_that_reads_it_belong_together() -> None:
    made = recipe(loss={"kind": "distill"}, teacher={"path": "some/larger"})
    assert made.loss.has_teacher and made.loss.distill.top_k == 64
    with pytest.raises(ValidationError, match=r"loss\.kind=mixed without a teacher section"):
        recipe(loss={"kind": "mixed"})
    with pytest.raises(ValidationError, match=r"loss\.kind=grpo with a teacher section"):
        recipe(teacher={"path": "some/larger"})


def test_the_policy_teaches_itself_only_where_it_is_told_more() -> None:
    with pytest.raises(ValidationError, match="would know no more than the policy"):
        recipe(loss={"kind": "distill"}, teacher={})
    recipe(loss={"kind": "distill"}, teacher={"context": "{question} It is {answer}."})


def test_a_context_may_name_the_columns_that_are_read_and_no_others() -> None:
    data = {"source": "rows.parquet", "reward_columns": ["caption"]}
    told = {"context": "{question} ({caption})"}
    recipe(loss={"kind": "distill"}, teacher=told, data=data)
    with pytest.raises(ValidationError, match=r"names \['caption'\].*add the column to data"):
        recipe(loss={"kind": "distill"}, teacher=told)
