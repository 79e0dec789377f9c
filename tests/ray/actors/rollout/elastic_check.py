"""A node joins a run, leaves it and another joins; prints what happened as JSON.

Run by test_elastic.py in a process of its own, which can be in one Ray cluster only.
"""

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from models.tiny.model import build_tiny_vlm
from rl.data.records import SamplingRequest
from tests.ray.system import System, mean_gap, problem, recipe, running_system, shift_part
from tests.waiting import wait_until

LONG = SamplingRequest(4, 1.0, 200, seed=5)
PATIENCE_S = 240.0


def count(system: System, engines: int) -> None:
    """Wait until so many engines serve."""
    wait_until(
        lambda: sum(member.ready.is_set() for member in system.engines.members) == engines,
        PATIENCE_S,
        lambda: f"{len(system.engines.handles)} engines, not {engines}",
    )


def nodes_of(system: System) -> list[str]:
    """The node of each engine."""
    return [
        ray.get(engine.__ray_call__.remote(lambda _: ray.get_runtime_context().get_node_id()))
        for engine in system.engines.handles
    ]


def told_by_each(system: System) -> list[dict[str, Any]]:
    """What each engine answers by itself: under which version, how far from the learner."""
    told: list[dict[str, Any]] = []
    for number, engine in enumerate(system.engines.handles):
        asked = problem(100 + number)
        group = ray.get(engine.sample.remote(asked, SamplingRequest(4, 1.0, 24, seed=1)))
        versions = sorted({answer.version for answer in group.answers})
        gap = mean_gap(system.gaps([replace(group, problem=asked)]))
        told.append({"versions": versions, "gap": gap})
    return told


def shift(system: System) -> None:
    """Let the learner learn something, and send it to whoever is there."""
    system.in_learner(shift_part, "language", 0.05)
    system.send_weights()


def main() -> None:
    """Everything on the head, which has no cores to spare; others bring one each."""
    head = {"num_cpus": 0, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    ray.init(address=cluster.address, log_to_driver=False)
    told: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as spare:
        folder = Path(spare) / "policy"
        build_tiny_vlm(folder, seed=0)
        base = recipe(folder)
        rollout = base.rollout.model_copy(update={"max_workers": 2})
        plan = base.model_copy(update={"rollout": rollout, "loss": type(base.loss)()})
        with running_system(plan, folder, Path(spare)) as system:
            shift(system)
            told["alone"] = len(system.engines.handles)
            node = cluster.add_node(num_cpus=1)
            count(system, 2)
            told["joined_on"] = nodes_of(system)[1] == node.node_id
            told["joined"] = told_by_each(system)
            shift(system)
            told["both"] = told_by_each(system)

            asked = [problem(number) for number in range(24)]
            pending = system.rollouts.submit(asked, LONG)
            system.sample([problem(99)], tokens=1)
            told["open"] = pending.open
            cluster.remove_node(node, allow_graceful=False)
            groups = pending.result()
            told["answered"] = [scored.group.problem.id for scored in groups] == [
                one.id for one in asked
            ] and {len(scored.scores) for scored in groups} == {4}
            count(system, 1)
            shift(system)
            told["left"] = told_by_each(system)
            told["restarts"] = system.engines.restarts

            cluster.add_node(num_cpus=1)
            count(system, 2)
            told["again"] = told_by_each(system)
            told["version"] = system.version
    json.dump(told, sys.stdout)
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
