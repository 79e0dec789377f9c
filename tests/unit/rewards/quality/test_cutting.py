"""Grades cut out of scores, by hand."""

import pytest
from pydantic import ValidationError

from configs.schema.quality import QualityConfig, ValueHeadConfig
from rewards.quality.cutting import cut_scores


def test_thresholds_count_as_reached_where_a_score_equals_them() -> None:
    scores = [-9.0, -2.0, -0.5, 0.0, 3.9, 4.0, 99.0]
    found = cut_scores(scores, (-2.0, 0.0, 1.0, 2.0, 4.0), quantiles=False)
    assert [quality.grade for quality in found] == [0, 1, 1, 2, 4, 5, 5]
    assert found[4].reason == "score 3.9"


def test_quantiles_are_those_of_the_scores_that_are_there() -> None:
    # Of 0, 10, .. 100 the quantile q is 100 q.
    scores = [float(10 * n) for n in range(11)]
    found = cut_scores([*scores, "too long"], (0.1, 0.25, 0.45, 0.65, 0.85), quantiles=True)
    assert [quality.grade for quality in found] == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, None]
    assert found[-1].reason == "too long"


def test_without_any_score_there_is_no_grade() -> None:
    found = cut_scores(["a", "b"], (0.1, 0.2, 0.3, 0.4, 0.5), quantiles=True)
    assert [quality.grade for quality in found] == [None, None]


def test_cut_points_rise_and_quantiles_are_shares() -> None:
    with pytest.raises(ValidationError, match="do not rise"):
        ValueHeadConfig(path="m", cut_points=(0.1, 0.1, 0.3, 0.4, 0.5))
    with pytest.raises(ValidationError, match="no quantiles between 0 and 1"):
        ValueHeadConfig(path="m", cut_points=(-1.0, 0.1, 0.3, 0.4, 0.5))
    assert ValueHeadConfig(path="m", cuts="thresholds", cut_points=(-1.0, 0.0, 1.0, 2.0, 3.0))


def test_a_section_belongs_to_its_kind() -> None:
    with pytest.raises(ValidationError, match=r"kind=judge needs .* set judge.model"):
        QualityConfig.model_validate({"kind": "judge"})
    with pytest.raises(ValidationError, match=r"value_head is set, and kind=rules"):
        QualityConfig.model_validate({"value_head": {"path": "m"}})
