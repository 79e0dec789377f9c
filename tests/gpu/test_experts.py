"""Mixtures of experts on a GPU: vLLM's own kernels and its second model runner.

`.venv/bin/python -m pytest -m gpu tests/gpu/test_experts.py`
"""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tests.families import FAMILIES
from tests.ray.actors.rollout.served import check_tokens_go_where_the_engine_sent_them
from tests.ray.system import System, learned_from, mean_gap, problem, recipe, running_system

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(900),
    pytest.mark.skipif(torch.cuda.device_count() < 1, reason="needs a GPU"),
]

TEXTS = [problem(number, images=0) for number in range(4)]
GAP = {"float32": 1e-3, "bfloat16": 0.02}
"""Most nats between sampler and learner on average."""


@pytest.fixture(
    scope="module",
    params=[
        ("qwen3-moe", "float32", True),
        ("qwen3-moe", "bfloat16", False),
        ("qwen3-vl-moe", "bfloat16", False),
    ],
)
def mixture(
    cluster: None, tmp_path_factory: pytest.TempPathFactory, request: Any
) -> Iterator[System]:
    """An engine, eager or compiled, on the GPU of a learner rank."""
    family, dtype, eager = request.param
    folder = tmp_path_factory.mktemp("mixture")
    FAMILIES[family](folder)
    plan = recipe(
        folder,
        device="cuda",
        policy={"path": str(folder), "dtype": dtype, "train": ["language"]},
        rollout={
            "max_new_tokens": 64,
            "max_num_seqs": 64,
            "gpu_memory_utilization": 0.4,
            "enforce_eager": eager,
            "routing_replay": True,
        },
        learner={
            "zero_stage": 3,
            "max_tokens_per_microbatch": 2048,
            "optimizer": {"lr": 1e-2, "weight_decay": 0.0},
        },
        sync={"shared_gpu": True},
        loss={},
    )
    with running_system(plan, folder, tmp_path_factory.mktemp("system")) as system:
        yield system


def test_experts_learn_and_arrive_and_tokens_go_where_the_engine_sent_them(
    mixture: System,
) -> None:
    gap = GAP[str(mixture.in_learner(_dtype))]
    for _ in range(2):
        check_tokens_go_where_the_engine_sent_them(mixture, TEXTS, gap)
        groups = mixture.sample(TEXTS)
        mixture.actors.weights.make_room()
        mixture.learners.update(learned_from(groups))
        mixture.send_weights()  # reads every weight of the engine back
        assert mean_gap(mixture.gaps(groups)) > gap
        assert mean_gap(mixture.gaps(mixture.sample(TEXTS))) < gap


def _dtype(learner: Any) -> str:
    return learner._job.policy.dtype
