"""Answers under way: scored while others are written, dropped, and gone on with behind a sync."""

import numpy as np
import pytest
import ray

from rl.algorithms.parity import parity_rows
from rl.data.records import SamplingRequest
from tests.ray.system import OpenWorker, System, problem, shift_part
from tests.waiting import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

PATIENCE_S = 120.0


def _unfinished(worker: OpenWorker) -> int:
    return len(worker._engine.output_processor.request_states)


def unfinished(system: System) -> int:
    """Requests that the engine has not ended."""
    return ray.get(system.engines.handles[0].__ray_call__.remote(_unfinished))


def test_a_problem_that_is_dropped_is_written_no_further(system: System) -> None:
    (engine,) = system.engines.handles
    kept, dropped = system.rollouts.begin(
        [problem(1), problem(2)], SamplingRequest(4, 1.0, 200, seed=1)
    )
    wait_until(lambda: unfinished(system) == 2 * 4, PATIENCE_S)
    ray.get(engine.freeze.remote())  # so that nothing is ended by being written
    before = unfinished(system)
    dropped.cancel()
    wait_until(lambda: unfinished(system) < before, PATIENCE_S)
    ray.get(engine.resume_generation.remote())
    group, seconds = kept.result(PATIENCE_S)
    assert len(group.scores) == 4 and seconds > 0
    wait_until(lambda: unfinished(system) == 0, PATIENCE_S)


def test_problems_are_scored_and_read_by_the_reference_while_others_are_written(
    system: System,
) -> None:
    short, long = SamplingRequest(2, 1.0, 2, seed=1), SamplingRequest(4, 1.0, 250, seed=1)
    (engine,) = system.engines.handles
    pending = system.rollouts.submit([problem(n) for n in range(4)], [long, short, short, short])
    wait_until(lambda: pending.open <= 1, PATIENCE_S, every_s=0.001)
    ray.get(engine.freeze.remote())
    # The long one is being written still, and the others are done with, scores and reference too.
    assert pending.open == 1 and unfinished(system) > 0
    ray.get(engine.resume_generation.remote())
    groups = pending.result()
    assert all(len(g.scores) == len(g.reference_logprobs or ()) > 0 for g in groups)


def test_each_part_of_an_answer_has_the_version_and_the_probabilities_of_who_wrote_it(
    system: System,
) -> None:
    began = system.version
    pending = system.rollouts.submit(
        [problem(n) for n in range(4)], SamplingRequest(2, 1.0, 200, 3)
    )
    wait_until(lambda: unfinished(system) > 0, PATIENCE_S)
    system.sample([problem(99)], tokens=16)  # by when the others have tokens, too
    system.in_learner(shift_part, "language", 0.05)
    system.send_weights()
    groups = [scored.group for scored in pending.result()]
    answers = [answer for group in groups for answer in group.answers]
    newer = system.learners.logprobs(parity_rows(groups))
    system.learners.restore(system._start)  # who wrote the first parts
    older = system.learners.logprobs(parity_rows(groups))
    assert {answer.version for answer in answers} == {began}
    assert any(answer.later for answer in answers)
    for place, answer in enumerate(answers):
        said = np.array(answer.logprobs)
        if not answer.later:
            assert said == pytest.approx(np.array(older[place]), abs=1e-3)
            continue
        ((version, start),) = answer.later
        assert version == began + 1 and 0 < start < len(said)
        assert said[:start] == pytest.approx(np.array(older[place][:start]), abs=1e-3)
        assert said[start:] == pytest.approx(np.array(newer[place][start:]), abs=1e-3)
        assert np.abs(said[start:] - np.array(older[place][start:])).mean() > 1e-3
