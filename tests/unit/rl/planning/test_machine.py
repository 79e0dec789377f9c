"""The machine is the cluster's nodes, now or once an autoscaler has brought them."""

from pathlib import Path

import pytest
import ray
import yaml

from actors.cluster.nodes import nodes_to_come
from rl.planning.machine import Machine
from tests.unit.step_samples import recipe

HEAD = {"CPU": 8.0}
NODE = {"GPU": 8.0, "CPU": 96.0}
STATED = {"nodes": 3, "gpus_per_node": 8, "cpus_per_node": 96, "gpu_memory_gib": 79}


def test_a_recipe_that_states_nothing_is_held_to_nothing() -> None:
    assert Machine.of_recipe(recipe(cluster={"gpu_memory_gib": 79})) == Machine(None, 79.0, None)
    assert Machine.of_recipe(recipe(cluster=STATED)).nodes == (NODE, NODE, NODE)


def test_nodes_that_the_recipe_states_are_waited_for_where_an_autoscaler_brings_them() -> None:
    there = [HEAD, NODE]
    assert Machine.of_cluster(recipe(cluster=STATED), there).nodes == (HEAD, NODE)
    grows = recipe(cluster=STATED | {"autoscaled": True})
    assert Machine.of_cluster(grows, there).nodes == (HEAD, NODE, NODE, NODE)
    # One that is there is one of them, though Ray counts other cores there, or names of its own.
    there = [HEAD, NODE | {"CPU": 90.0, "on_demand": 8.0}]
    assert len(Machine.of_cluster(grows, there).nodes or ()) == 4


def test_host_memory_is_what_the_recipe_says_or_rays_smallest_node_has() -> None:
    told = [{"memory": 60.0 * 2**30, "object_store_memory": 4.0 * 2**30}, {"memory": 2.0**40}]
    assert Machine.of_cluster(recipe(), told).host_gib == 64.0
    with_gpus = [*told, {"GPU": 8.0, "memory": 2.0**39}]
    assert Machine.of_cluster(recipe(), with_gpus).host_gib == 512.0
    said = recipe(cluster={"memory_per_node_gib": 100})
    assert Machine.of_cluster(said, told).host_gib == 100.0


def test_nodes_that_may_come_are_read_from_the_file_that_ray_up_leaves_on_the_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = [{"Alive": True, "Resources": each} for each in (HEAD, NODE)]
    monkeypatch.setattr(ray, "nodes", lambda: [*alive, {"Alive": False, "Resources": NODE}])
    cluster = {
        "max_workers": 4,
        "head_node_type": "head",
        "available_node_types": {
            "head": {"resources": {"CPU": 8}},
            "gpu": {
                "resources": {"CPU": 96, "GPU": 8, "memory": 7},
                "min_workers": 0,
                "max_workers": 3,
            },
            "cpu": {"resources": {"CPU": 32}, "max_workers": 9},
        },
    }
    file = tmp_path / "ray_bootstrap_config.yaml"
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert nodes_to_come(file) == [HEAD, NODE]
    file.write_text(yaml.safe_dump(cluster))
    # Of 4 workers 1 is there: 2 more of the kind with GPUs, and 1 of the other.
    # What the file calls memory is seven tenths of the node's; the store has the rest.
    come = NODE | {"memory": 7.0, "object_store_memory": pytest.approx(3.0)}
    assert nodes_to_come(file) == [HEAD, NODE, come, come, {"CPU": 32.0}]
    # Kinds that differ in what only they were given are told apart.
    kinds = {name: {"resources": NODE | {name: 8}, "max_workers": 1} for name in ("kept", "spot")}
    file.write_text(yaml.safe_dump({"max_workers": 3, "available_node_types": kinds}))
    alive[1] = {"Alive": True, "Resources": NODE | {"kept": 8.0}}
    assert nodes_to_come(file) == [HEAD, NODE | {"kept": 8.0}, NODE | {"spot": 8.0}]
    monkeypatch.delenv("RAY_ADDRESS")  # a cluster of this run alone
    assert nodes_to_come(file) == [HEAD, NODE | {"kept": 8.0}]
