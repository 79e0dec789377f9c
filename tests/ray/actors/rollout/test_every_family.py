"""Tiny policies of every family go the way of a run with a real engine and a real learner."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.families import FAMILIES
from tests.repository import ROOT

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def told() -> dict[str, dict[str, Any]]:
    """What came of each family, all taken by one process: its start is what costs."""
    script = "tests.ray.actors.rollout.family_path"
    # vLLM makes a process's groups for its first model, and those for experts only then.
    ordered = sorted(FAMILIES, key=lambda family: "moe" not in family)
    done = subprocess.run(
        [sys.executable, "-m", script, *ordered],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        timeout=600,
        check=True,
        text=True,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {line["family"]: line for line in lines}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_goes_the_way_from_preflight_to_a_policy_that_is_read_again(
    family: str, told: dict[str, dict[str, Any]]
) -> None:
    came = told[family]
    assert "error" not in came, came["error"]
    assert came["moved"] > 1e-3
    assert came["losses"][-1] < came["losses"][0]
    assert came["faults"] == []
    assert came["served"] < 1e-4
    assert came["reread"] < 1e-5
    assert came["same layout"]
