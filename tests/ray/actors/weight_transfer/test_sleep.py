"""Engines that share GPUs with the learner sleep while it learns, and never wake to old weights.

vLLM's CPU worker gives no memory back, so `Probe.sleep_as_on_gpus` takes its place: weights are
lost or kept as on GPUs. Scheduler, order and the sync are vLLM's and the project's own.
"""

import signal
from collections.abc import Iterator

import pytest

from actors.weight_transfer.sync import WeightSyncError
from rl.data.records import SamplingRequest
from tests.ray.processes import engine_core_of, pid_of
from tests.ray.system import System, mean_gap, problem, recipe, running_system, shift_part

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ASKED = [problem(1), problem(2)]
REQUEST = SamplingRequest(2, 1.0, 24, seed=3)


@pytest.fixture(scope="module")
def aligned(
    cluster: None, vlm_folder: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    """A projector learns between frozen parts; each sync behind the first sends it alone."""
    policy = {"path": str(vlm_folder), "dtype": "float32", "train": ["projector"]}
    plan = recipe(vlm_folder, policy=policy, loss={})
    with running_system(plan, vlm_folder, tmp_path_factory.mktemp("aligned")) as system:
        system.actors.weights._sleeps = True  # as the plan has it on GPUs
        sleepless(system)
        yield system


def sleepless(system: System) -> None:
    """An engine that has just started and will sleep, and take weights, as on GPUs."""
    system.in_engine("reload_by_layers")
    system.in_engine("sleep_as_on_gpus")


def answers(system: System) -> list[tuple[int, ...]]:
    return [a.token_ids for g in system.sample(ASKED) for a in g.answers]


def check_right_weights(system: System) -> None:
    groups = system.sample(ASKED)
    assert {a.version for g in groups for a in g.answers} == {system.version}
    assert mean_gap(system.gaps(groups)) < 1e-4


def test_an_engine_answers_after_its_sleep_as_it_did_before(aligned: System) -> None:
    before = answers(aligned)
    aligned.actors.weights.make_room()
    aligned.send_weights()
    assert answers(aligned) == before


def test_frozen_weights_outlast_a_sleep_and_all_are_dropped_where_all_are_sent(
    aligned: System,
) -> None:
    weights = aligned.actors.weights
    aligned.send_weights()
    sleepless(aligned)
    weights.make_room()
    aligned.send_weights()
    check_right_weights(aligned)
    weights._connected = []  # the next sync meets anew, and sends everything
    weights.make_room()
    aligned.send_weights()
    check_right_weights(aligned)
    assert aligned.in_engine("loose_tensors") == []
    assert aligned.in_engine("levels_slept") == [1, 2]


def test_what_is_asked_of_a_sleeping_engine_is_answered_by_the_weights_that_wake_it(
    aligned: System,
) -> None:
    aligned.actors.weights.make_room()
    aligned.actors.weights.make_room()  # once is enough
    pending = aligned.rollouts.submit(ASKED, REQUEST)
    aligned.in_learner(shift_part, "projector", 0.5)
    aligned.in_engine("ping")
    assert pending.open == len(ASKED)
    aligned.send_weights()
    groups = [scored.group for scored in pending.result()]
    assert mean_gap(aligned.gaps(groups)) < 1e-4


def test_an_engine_that_lost_what_nobody_sends_is_caught_before_it_answers(
    aligned: System,
) -> None:
    weights = aligned.actors.weights
    weights._always_whole = True  # which is not so
    weights.make_room()
    pending = aligned.rollouts.submit(ASKED, REQUEST)
    with pytest.raises(WeightSyncError, match="vision_tower"):
        aligned.send_weights()
    assert pending.open == len(ASKED)
    weights._connected = []
    aligned.send_weights()
    pending.result()
    check_right_weights(aligned)


@pytest.mark.timeout(600)
def test_an_engine_that_dies_asleep_is_replaced_when_the_learner_is_done(aligned: System) -> None:
    weights, restarts = aligned.actors.weights, aligned.engines.restarts
    weights.make_room()
    engine_core_of(pid_of(aligned.engines.handles[0])).send_signal(signal.SIGKILL)
    pending = aligned.rollouts.submit(ASKED, REQUEST)
    aligned.in_learner(shift_part, "projector", 0.5)
    aligned.send_weights()
    pending.result()
    assert aligned.engines.restarts == restarts + 1
    check_right_weights(aligned)
