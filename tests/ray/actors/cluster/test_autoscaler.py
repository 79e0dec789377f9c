"""Ray's autoscaler brings the nodes that a run's seats ask for, and takes them away."""

import json
import secrets
from typing import Any

import pytest

from tests.ray.processes import lines_of

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """What happened on a head alone, whose autoscaler may bring nodes that stay and spot nodes."""
    # A head takes whatever token it finds in the user's home; who joins it must know the same.
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    *lines, told = lines_of("tests.ray.actors.cluster.autoscaled_check", **token)
    return {**json.loads(told), "lines": [line for line in lines if line.endswith("...")]}


def test_the_plan_counts_nodes_that_may_come(told: dict[str, Any]) -> None:
    assert told["first"] == {"head": 1}
    assert told["missing"] == {"now": {"learner": 2, "rollout": 2}, "later": {}}


def test_seats_bring_nodes_and_each_actor_sits_on_its_kind(told: dict[str, Any]) -> None:
    assert told["sitting"]["learner"] == ["fixed", "fixed"]
    assert told["sitting"]["reward"] == ["head"]
    assert told["sitting"]["rollout"][:2] == ["spot", "spot"]


def test_what_is_missing_is_told_until_the_nodes_are_there(told: dict[str, Any]) -> None:
    assert any("waiting for 2 learner x 1 GPU and 1 CPU" in line for line in told["lines"])


def test_an_engine_beyond_the_seats_brings_a_node_of_its_own(told: dict[str, Any]) -> None:
    assert told["sitting"]["rollout"][2] == "spot"
    assert told["during"] == {"head": 1, "fixed": 1, "spot": 3}


def test_nodes_go_when_the_run_has_ended(told: dict[str, Any]) -> None:
    assert told["after"] == {"head": 1}
