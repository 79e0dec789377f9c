"""The nodes of a cluster: those that are there, and those that its autoscaler may still bring."""

import os
from pathlib import Path
from typing import Any

import ray
import yaml

from actors.cluster.seats import Node

_FOR_WORKERS = 0.7
"""The share of a node's memory that Ray's providers count as `memory`."""
BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")
"""Where `ray up` leaves the cluster's file on the head, with what each kind of node has."""


def nodes_there() -> list[Node]:
    """What each living node has, by Ray's names of resources."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def nodes_to_come(bootstrap: Path = BOOTSTRAP) -> list[Node]:
    """The nodes that are there, and behind them those that may come.

    Ray's autoscaler keeps its limits to itself, so they are read where `ray up` put them, which is
    on the head, where jobs are started too. On a cluster of this run alone there is none.
    """
    there = nodes_there()
    path = bootstrap.expanduser()
    if "RAY_ADDRESS" not in os.environ or not path.is_file():
        return there
    return [*there, *_may_come(yaml.safe_load(path.read_text("utf-8")), there)]


def _may_come(cluster: dict[str, Any], there: list[Node]) -> list[Node]:
    """Further nodes of each kind, as many as the file allows, those with most GPUs first; a kind
    whose resources it does not tell is passed over."""
    room = int(cluster.get("max_workers", 0)) - max(0, len(there) - 1)
    coming: list[Node] = []
    for name, kind in cluster.get("available_node_types", {}).items():
        resources = {key: float(n) for key, n in (kind.get("resources") or {}).items()}
        if "memory" in resources:
            # Ray's providers write down what they leave to workers, and not the store beside it.
            resources["object_store_memory"] = resources["memory"] * (1 / _FOR_WORKERS - 1)
        if name == cluster.get("head_node_type") or not resources:
            continue
        same = sum(_is_of(node, resources) for node in there)
        coming += [resources] * max(0, int(kind.get("max_workers", room)) - same)
    coming.sort(key=lambda node: -node.get("GPU", 0.0))
    return coming[: max(0, room)]


def _is_of(node: Node, kind: Node) -> bool:
    """Whether a node that is there is of a kind. Of memory it may tell another figure than the
    file; Ray's own marks, with a colon in their names, the file need not know."""
    told = {name for name in kind if "memory" not in name and ":" not in name}
    return all(node.get(name) == kind.get(name) for name in told | {"GPU", "CPU"})
