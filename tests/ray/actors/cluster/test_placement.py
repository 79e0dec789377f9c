"""Seats are reserved together, each on one node; a reservation that cannot be had says why."""

import json
import os
import subprocess
import sys

import pytest

from tests.repository import ROOT

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_seats_on_two_nodes_of_two_gpus() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.ray.actors.cluster.placement_check"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    told = json.loads(run.stdout.splitlines()[-1])

    engine, *ranks = [told["first"][str(bundle)] for bundle in range(3)]
    assert engine not in ranks and ranks[0] == ranks[1]

    assert told["second"].startswith(
        "2 GPU and 3 CPU could not be reserved in cluster.reserve_timeout_s=2 seconds."
    )
    assert "Free in all: 0 GPU" in told["second"]
    assert "Reservation 'first' holds 4 GPU and 4 CPU." in told["second"]

    assert "needs 3 GPU and 1 CPU on one node" in told["over"]
    assert "the largest has 2 GPU" in told["over"]

    assert told["pairs"] == [3, 3]
