"""What a checkpoint holds of the policy is what transformers and vLLM load."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ray.system import System, learned_from, problem
from tests.repository import ROOT

pytestmark = [pytest.mark.ray, pytest.mark.slow]

NUMBERS = (1, 2, 3)
TOKENS = 12


def test_a_fresh_vllm_engine_serves_a_checkpoint_s_policy(system: System, tmp_path: Path) -> None:
    asked = [problem(number) for number in NUMBERS]
    system.learners.update(learned_from(system.sample(asked)))
    system.send_weights()
    policy = tmp_path / "policy"
    system.learners.export(policy)
    words = map(str, (policy, TOKENS, *NUMBERS))
    served = subprocess.run(
        [sys.executable, "-m", "tests.ray.actors.rollout.serving", *words],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    said = [tuple(ids) for ids in json.loads(served.stdout.splitlines()[-1])]
    groups = system.sample(asked, temperature=0.0, tokens=TOKENS)
    assert said == [group.answers[0].token_ids for group in groups]
    assert said == system.greedy_by_transformers(asked, TOKENS)
