"""Tiny policies of every family go the way of a run with a real engine and a real learner."""

from typing import Any

import pytest

from tests.families import FAMILIES
from tests.family_table import documented, row, take_all

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def told() -> dict[str, dict[str, Any]]:
    return take_all()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_goes_the_way_from_preflight_to_a_policy_that_is_read_again(
    family: str, told: dict[str, dict[str, Any]]
) -> None:
    """And stands in the document with what came of it."""
    came = told[family]
    assert "error" not in came, came["error"]
    assert "| no |" not in row(came), came
    assert row(came) in documented().splitlines()


def test_engines_of_qwen2_5_vl_keep_everything_in_weights_and_buffers(
    told: dict[str, dict[str, Any]],
) -> None:
    """So that nothing is lost where memory is given back and all weights are sent anew."""
    assert told["qwen2.5-vl"]["loose"] == []
