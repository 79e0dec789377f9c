"""Seats are reserved together, each role's on the nodes that suit it; what is missing is told."""

import json
from typing import Any

import pytest

from tests.ray.processes import lines_of

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """What happened on a head without GPUs and two nodes of two GPUs, A and B."""
    *lines, told = lines_of("tests.ray.actors.cluster.placement_check")
    return {**json.loads(told), "lines": [line for line in lines if line.endswith("...")]}


@pytest.mark.parametrize("case", ["first", "again"])
def test_ranks_sit_together_engines_where_room_is_and_rewards_without_gpus(
    told: dict[str, Any], case: str
) -> None:
    sitting = told[case]
    assert sitting["reward"] == ["head"]
    (packed,) = set(sitting["learner"])
    (others,) = set(sitting["rollout"])
    assert {packed, others} == {"A", "B"}


def test_engines_are_spread_beside_ranks_that_are_packed(told: dict[str, Any]) -> None:
    (packed,) = {*told["spread"]["learner"]}
    assert {packed, *told["spread"]["rollout"]} == {"A", "B", "C"}


@pytest.mark.parametrize(
    ("case", "width", "nodes"),
    [("pairs", 1, "AABB"), ("two_nodes", 2, "AB"), ("one_node", 2, "DD")],
)
def test_an_engine_sees_the_gpus_of_its_ranks_and_each_rank_its_own(
    told: dict[str, Any], case: str, width: int, nodes: str
) -> None:
    ranks, engines = told[case]["learner"], told[case]["rollout"]
    assert sorted(node for node, _ in engines) == list(nodes)
    for number, (node, gpus) in enumerate(engines):
        own = ranks[number * width : (number + 1) * width]
        assert {of for of, _ in own} == {node}
        assert sorted(gpu for _, (gpu,) in own) == sorted(gpus)
    held = {(node, gpu) for node, gpus in engines for gpu in gpus}
    assert len(held) == len(ranks) == 4  # nobody shares with two


def test_a_reservation_that_cannot_be_had_says_why_and_leaves_nothing(told: dict[str, Any]) -> None:
    assert told["second"].startswith(
        "1 learner x 1 GPU and 1 CPU, 1 rollout x 1 GPU and 1 CPU could not be reserved in "
        "cluster.reserve_timeout_s=3 seconds. Free in all: 0 GPU and "
    )
    assert "Reservation 'first' holds 4 GPU and 6 CPU." in told["second"]
    assert "This run holds 0 GPU and 2 CPU." in told["second"]  # its reward worker's
    assert {*told["after"]} == {"learner", "rollout", "reward"}  # once the other has ended


def test_what_is_missing_is_told_while_it_is_waited_for(told: dict[str, Any]) -> None:
    lines = [line for line in told["lines"] if "waiting for 1 learner x 1 GPU and 1 CPU" in line]
    assert len(lines) > 2
    assert all(line.startswith("reserving GPUs: ") for line in lines)
    assert all("Reservation 'first' holds 4 GPU and 6 CPU." in line for line in lines)


def test_nodes_that_come_later_are_waited_for(told: dict[str, Any]) -> None:
    assert any("waiting for 2 rollout x 2 GPU and 1 CPU." in line for line in told["lines"])
    (packed,) = {*told["later"]["learner"]}
    assert {packed, *told["later"]["rollout"]} == {"A", "B", "C"}
