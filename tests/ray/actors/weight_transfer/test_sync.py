"""A sync that went wrong is noticed: whatever is lost on the way, no answer comes from it."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import ray
from torch import Tensor

from actors.weight_transfer.policy_source import PolicySource
from actors.weight_transfer.sync import WeightSync, WeightSyncError
from configs.jobs.grpo import SyncConfig
from tests.ray.system import OpenWorker, System, learned_from, mean_gap, problem, shift_part
from tests.waiting import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow]

GARBLED = "layers.1.mlp.down_proj.weight"


class GarblingSource(PolicySource):
    """Changes one number of one tensor after it was summed, as a bad cable would."""

    def iter_groups(self) -> Iterator[tuple[list[str], list[Tensor]]]:
        for names, tensors in super().iter_groups():
            yield names, [_garbled(n, t) for n, t in zip(names, tensors, strict=True)]


def _garbled(name: str, tensor: Tensor) -> Tensor:
    if not name.endswith(GARBLED):
        return tensor
    changed = tensor.clone()
    changed[3, 5] += 1e-3
    return changed


def _put_source(learner: Any, kind: type[PolicySource]) -> None:
    learner._sender._source.__class__ = kind


def test_a_number_changed_on_its_way_stops_the_sync(system: System) -> None:
    verified = system.actors.weights.verified
    system.in_learner(_put_source, GarblingSource)
    try:
        with pytest.raises(WeightSyncError) as caught:
            system.send_weights()
    finally:
        system.in_learner(_put_source, PolicySource)
    words = str(caught.value)
    assert f"version {system.version}" in words
    assert "layers.1:" in words and "layers.0:" not in words and "layers.2:" not in words
    assert system.actors.weights.verified == verified
    system.send_weights()
    assert mean_gap(system.gaps(system.sample([problem(1)]))) < 1e-4


def test_an_engine_that_kept_its_old_weights_is_caught(system: System) -> None:
    system.in_learner(shift_part, "projector", 0.1)
    system.in_engine("deafen")
    try:
        with pytest.raises(WeightSyncError) as caught:
            system.send_weights()
    finally:
        system.in_engine("hear")
    words = str(caught.value)
    assert f"version {system.version}" in words and "projector" in words
    assert "language_model" not in words
    system.send_weights()
    assert mean_gap(system.gaps(system.sample([problem(1)]))) < 1e-4


def test_an_engine_that_missed_its_new_version_is_caught(system: System) -> None:
    (engine,) = system.engines.handles
    ray.get(engine.__ray_call__.remote(_forget_versions, True))
    try:
        with pytest.raises(WeightSyncError) as caught:
            system.send_weights()
    finally:
        ray.get(engine.__ray_call__.remote(_forget_versions, False))
    assert f"hold version {system.version} " in str(caught.value)
    assert f"version {system.version - 1}" in str(caught.value)
    system.send_weights()
    assert system.sample([problem(1)], tokens=1)[0].answers[0].version == system.version


def _forget_versions(worker: OpenWorker, forgets: bool) -> None:
    worker.forgets_versions = forgets


def _delay_updates(learner: Any, by_s: float) -> None:
    update = type(learner)._update

    def late(*args: Any) -> Any:
        time.sleep(by_s)
        return update(learner, *args)

    learner._update = late


def test_a_sync_waits_for_updates_that_take_longer_than_a_sync_may(system: System) -> None:
    """As when an engine joins, or is replaced, while the learner learns."""
    limit_s, update_s = 10.0, 15.0
    loop = system.learners._loop
    config = SyncConfig(timeout_s=limit_s)
    sync = WeightSync(system.learners, system.engines, config, loop)
    rows = learned_from(system.sample([problem(1)]))
    system.in_learner(_delay_updates, update_s)
    with ThreadPoolExecutor() as main_threads:
        try:
            updates = [main_threads.submit(system.learners.update, rows) for _ in range(2)]
            wait_until(system.learners.turn.locked, 60.0)
            began = time.monotonic()
            loop.start(sync.run()).result()
            assert time.monotonic() - began > limit_s
            assert sync.verified == 1
            for update in updates:
                update.result()
        finally:
            system.in_learner(_delay_updates, 0.0)
