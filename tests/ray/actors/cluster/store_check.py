"""Sends more images than the object store holds, all of them in use, and prints what arrives.

Run by test_object_refs.py in a process of its own, which can be in one Ray cluster only.
"""

import json
import sys

import ray
from ray.cluster_utils import Cluster

from actors.cluster.object_refs import ProblemRefs, SharedBatches
from rl.algorithms.rows import TrainingRow
from rl.data.records import Problem

STORE_BYTES = 80 * 2**20
IMAGE_BYTES = 4 * 2**20
SHARED = 40


@ray.remote(num_cpus=0)
def sizes(share: SharedBatches) -> list[int]:
    """Bytes of the image of each problem, as they arrive."""
    return [len(row.problem.images[0]) for batch in share.open() for row in batch]


def main() -> None:
    """One node, its store half as large as the images."""
    head = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    ray.init(address=cluster.address, log_to_driver=False)
    image = bytes(IMAGE_BYTES - 1)
    problems = [Problem(str(n), "", ("1",), (image + bytes([n]),)) for n in range(SHARED)]
    share = ProblemRefs(SHARED).share([tuple(TrainingRow(one, (1,), ()) for one in problems)])
    json.dump(ray.get(sizes.remote(share)), sys.stdout)
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
