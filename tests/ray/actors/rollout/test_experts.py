"""A mixture of experts under sharded learners and an engine of two ranks: every expert arrives, and
tokens go to whom the engine sent them."""

from collections.abc import Iterator
from typing import Any

import pytest
from torch import Tensor
from vllm.distributed.weight_transfer import ParamMeta

from actors.weight_transfer.policy_source import PolicySource
from actors.weight_transfer.sync import WeightSyncError
from tests.families import FAMILIES
from tests.ray.actors.rollout.served import (
    check_a_step_is_served_as_it_was_learned,
    check_tokens_go_where_the_engine_sent_them,
)
from tests.ray.system import System, learned_from, mean_gap, problem, recipe, running_system

pytestmark = [pytest.mark.ray, pytest.mark.slow]

PROBLEMS = [problem(number, images=0) for number in range(4)]
FORGOTTEN = ".layers.1.mlp.experts.2."


@pytest.fixture(scope="module")
def mixture(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("mixture")
    FAMILIES["qwen3-moe"](folder)
    rollout = {"tensor_parallel_size": 2, "max_new_tokens": 24, "max_num_seqs": 64}
    plan = recipe(
        folder,
        rollout=rollout | {"enforce_eager": True, "routing_replay": True},
        loss={"kl": {"coef": 0.0}},
    )
    sharded = plan.learner.model_copy(update={"ranks": 2, "zero_stage": 3})
    plan = plan.model_copy(update={"learner": sharded})
    with running_system(plan, folder, tmp_path_factory.mktemp("system")) as system:
        yield system


class ForgetfulSource(PolicySource):
    """Leaves one expert out of what it sends."""

    def metadata(self) -> list[ParamMeta]:
        return [meta for meta in super().metadata() if FORGOTTEN not in meta.name]

    def iter_groups(self) -> Iterator[tuple[list[str], list[Tensor]]]:
        for names, tensors in super().iter_groups():
            kept = [(n, t) for n, t in zip(names, tensors, strict=True) if FORGOTTEN not in n]
            yield [name for name, _ in kept], [tensor for _, tensor in kept]


def _put_source(learner: Any, kind: type[PolicySource]) -> None:
    learner._sender._source.__class__ = kind


def test_learners_send_each_token_to_the_experts_that_the_engine_sent_it_to(
    mixture: System,
) -> None:
    check_tokens_go_where_the_engine_sent_them(mixture, PROBLEMS)


def test_experts_learn_and_engines_and_exports_get_them_apart(mixture: System) -> None:
    check_a_step_is_served_as_it_was_learned(mixture, PROBLEMS)


def test_a_changed_expert_that_was_not_sent_stops_the_sync(mixture: System) -> None:
    mixture.learners.update(learned_from(mixture.sample(PROBLEMS)))
    mixture.in_learner(_put_source, ForgetfulSource)
    try:
        with pytest.raises(WeightSyncError) as caught:
            mixture.send_weights()
    finally:
        mixture.in_learner(_put_source, PolicySource)
    words = str(caught.value)
    assert "layers.1:" in words and "layers.0:" not in words
    mixture.send_weights()
    assert mean_gap(mixture.gaps(mixture.sample(PROBLEMS))) < 1e-4
