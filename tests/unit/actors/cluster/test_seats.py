"""Seats are grouped by who sits on them, and dealt out as Ray would."""

from collections import Counter
from typing import Any

import pytest
from pydantic import ValidationError

from actors.cluster.plan import plan_of
from actors.cluster.seats import SeatGroup, deal, seats_of
from rl.console.errors import DoesNotFit
from tests.unit.step_samples import recipe

HEAD = {"CPU": 16.0}
NODE = {"GPU": 4.0, "CPU": 16.0}


def groups(**sections: Any) -> tuple[SeatGroup, ...]:
    return seats_of(plan_of(recipe(device="cuda", **sections), {}))


APART: dict[str, Any] = {
    "rollout": {"workers": 2, "tensor_parallel_size": 2},
    "learner": {"ranks": 4},
    "reward": {"weights": {"exact": 1.0}, "accuracy": "exact", "workers": 2, "processes": 3},
}


def test_ranks_are_reserved_first_and_packed_and_all_others_spread() -> None:
    asked = groups(**APART, loss={"kl": {"coef": 0.1}})
    assert [(group.name, group.count, group.strategy) for group in asked] == [
        ("learner", 4, "PACK"),
        ("rollout", 2, "SPREAD"),
        ("reference", 1, "SPREAD"),
        ("reward", 2, "SPREAD"),
    ]
    assert asked[1].bundle == {"GPU": 2.0, "CPU": 1.0}
    assert asked[3].bundle == {"CPU": 3.0}


def test_who_shares_a_gpu_shares_a_seat() -> None:
    pairs = {"rollout": {"workers": 4, "gpu_memory_utilization": 0.5}, "learner": {"ranks": 4}}
    (shared, reward) = groups(**pairs, sync={"shared_gpu": True})
    assert shared.name == "learner + rollout" and shared.count == 4
    assert shared.bundle == {"GPU": 1.0, "CPU": 2.0}
    assert reward.name == "reward"


SHARED: dict[str, Any] = {
    "rollout": {"workers": 2, "tensor_parallel_size": 4, "gpu_memory_utilization": 0.5},
    "learner": {"ranks": 8},
    "sync": {"shared_gpu": True},
}


def test_an_engine_of_four_gpus_sits_with_four_ranks_on_one_node() -> None:
    asked = groups(**SHARED)
    assert (asked[0].name, asked[0].count) == ("(4 learner + 1 rollout)", 2)
    assert asked[0].bundle == {"GPU": 4.0, "CPU": 5.0}
    for nodes in ([NODE, NODE], [{"GPU": 8.0, "CPU": 16.0}]):
        dealt = deal(asked, nodes)
        assert not dealt.missing
        sitting = sum(dealt.on_nodes, Counter())
        assert sitting == Counter(learner=8, rollout=2, reward=sitting["reward"])
    # 8 GPUs, and no engine could have all of its own on one node.
    assert deal(asked, [{"GPU": 2.0, "CPU": 16.0}] * 4).missing == {"(4 learner + 1 rollout)": 2}


def test_ranks_that_share_rows_sit_on_one_node() -> None:
    shared = APART | {"learner": {"ranks": 4, "sequence_parallel_size": 2}}
    ranks = groups(**shared)[0]
    assert (ranks.sitters, ranks.count, ranks.strategy) == ({"learner": 2}, 2, "PACK")
    assert ranks.bundle == {"GPU": 2.0, "CPU": 2.0}
    # Nodes of 3 GPUs have room for one such pair each, and for an engine beside none.
    three = {"GPU": 3.0, "CPU": 16.0}
    assert not deal(groups(**shared), [three] * 4).missing
    assert deal(groups(**shared), [three] * 3).missing == {"rollout": 1}
    assert not deal(groups(**APART), [three] * 3).missing


def test_on_a_cpu_machine_nothing_is_reserved() -> None:
    assert seats_of(plan_of(recipe(device="cpu", **APART), {})) == ()


def test_rewards_go_where_no_gpus_are_and_engines_apart() -> None:
    dealt = deal(groups(**APART), [HEAD, NODE, NODE, NODE])
    assert not dealt.missing
    assert dealt.on_nodes == (
        Counter(reward=2),
        Counter(learner=4),
        Counter(rollout=1),
        Counter(rollout=1),
    )


def test_rewards_go_beside_gpus_where_there_is_nothing_else() -> None:
    dealt = deal(groups(**APART), [NODE, NODE])
    assert not dealt.missing
    assert sum((one for one in dealt.on_nodes), Counter()) == Counter(
        learner=4, rollout=2, reward=2
    )


@pytest.mark.parametrize(
    ("nodes", "missing"),
    [
        ([NODE], Counter({"rollout": 2})),
        ([{"GPU": 3.0, "CPU": 16.0}, {"GPU": 5.0, "CPU": 16.0}], Counter()),
        ([{"GPU": 1.0, "CPU": 16.0}] * 8, Counter({"rollout": 2})),
        ([{"GPU": 8.0, "CPU": 9.0}], Counter({"reward": 1})),
    ],
)
def test_seats_without_a_node_are_told(
    nodes: list[dict[str, float]], missing: Counter[str]
) -> None:
    assert deal(groups(**APART), nodes).missing == missing


def test_large_seats_find_room_where_ranks_that_came_first_would_leave_gaps() -> None:
    # Ranks on the first node would leave no other with 4 GPUs.
    wide = {"rollout": {"workers": 1, "tensor_parallel_size": 4}, "learner": {"ranks": 4}}
    nodes = [{"GPU": 4.0, "CPU": 9.0}, {"GPU": 1.0, "CPU": 9.0}, {"GPU": 3.0, "CPU": 9.0}]
    assert not deal(groups(**wide), nodes).missing


def test_resources_of_a_role_are_part_of_its_seats_wherever_it_sits() -> None:
    resources = {"learner": {"on_demand": 1}, "rollout": {"spot": 2, "on_demand": 3}}
    learner, rollout, reward = groups(**APART, cluster={"resources": resources})
    assert learner.bundle == {"GPU": 1.0, "CPU": 1.0, "on_demand": 1.0}
    assert rollout.bundle == {"GPU": 2.0, "CPU": 1.0, "spot": 2.0, "on_demand": 3.0}
    assert reward.bundle == {"CPU": 3.0}
    pairs = {"rollout": {"workers": 4, "gpu_memory_utilization": 0.5}, "learner": {"ranks": 4}}
    shared, _ = groups(**pairs, sync={"shared_gpu": True}, cluster={"resources": resources})
    assert shared.bundle == {"GPU": 1.0, "CPU": 2.0, "on_demand": 4.0, "spot": 2.0}


def test_without_gpus_only_who_asks_for_a_resource_has_a_seat() -> None:
    asked = seats_of(
        plan_of(recipe(device="cpu", cluster={"resources": {"learner": {"on_demand": 1}}}), {})
    )
    assert [(group.name, group.bundle) for group in asked] == [("learner", {"on_demand": 1.0})]


def test_a_resource_for_a_role_that_the_run_has_not_is_refused() -> None:
    with pytest.raises(DoesNotFit, match=r"cluster\.resources names teacher, .* only rollout, "):
        groups(**APART, cluster={"resources": {"teacher": {"on_demand": 1}}})


def test_gpus_and_cores_are_not_asked_for_twice() -> None:
    with pytest.raises(ValidationError, match="learner: CPU, GPU cannot be asked for here"):
        recipe(cluster={"resources": {"learner": {"GPU": 1, "CPU": 2}}})
