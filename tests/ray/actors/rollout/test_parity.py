"""Engine and learner read the same prompts and mean the same policy, before and after a sync."""

import math
from typing import Any

import pytest
import torch

from configs.schema.rollout import WHOLE, DistributionConfig
from models.policy.loading import load_model
from rl.algorithms.parity import parity_rows
from rl.algorithms.rows import TrainingAnswer, TrainingRow
from rl.data.records import SamplingRequest
from tests.ray.system import System, learned_from, mean_gap, problem, recipe, shift_part

pytestmark = [pytest.mark.ray, pytest.mark.slow]

PROBLEMS = [problem(1), problem(2), problem(3, images=2), problem(4, images=0)]


def test_the_engine_expands_prompts_as_the_learner_does(system: System) -> None:
    groups = system.sample(PROBLEMS, tokens=2)
    assert [g.prompt_ids for g in groups] == [system.encoder.encode(p) for p in PROBLEMS]
    lengths = [len(group.prompt_ids) for group in groups]
    assert lengths[2] > lengths[0] > lengths[3]


def test_more_seeded_prompts_than_one_pass_can_read_do_not_kill_the_engine(system: System) -> None:
    restarts = system.engines.restarts
    crowd = [problem(number) for number in range(80)]  # four answers each, 22 tokens a prompt
    groups = system.sample(crowd, tokens=1)
    assert [group.problem for group in groups] == crowd
    assert system.engines.restarts == restarts


def test_sampled_logprobs_are_the_learners(system: System) -> None:
    groups = system.sample(PROBLEMS)
    assert mean_gap(system.gaps(groups)) < 1e-4
    assert all(a.version == system.version for g in groups for a in g.answers)


def test_after_an_update_and_a_sync_the_engine_continues_as_the_learner(system: System) -> None:
    before = system.sample(PROBLEMS, temperature=0.0)
    report = system.learners.update(learned_from(system.sample(PROBLEMS)))
    assert not report.skipped and report.metrics["logprob_gap"] < 1e-4
    version = system.send_weights()
    after = system.sample(PROBLEMS, temperature=0.0)
    expected = system.greedy_by_transformers(PROBLEMS, tokens=24)
    assert [group.answers[0].token_ids for group in after] == expected
    assert [group.answers[0].version for group in after] == [version] * len(PROBLEMS)
    assert [g.answers[0].token_ids for g in before] != expected
    assert mean_gap(system.gaps(system.sample(PROBLEMS))) < 1e-4


def test_an_image_seen_before_is_seen_anew_by_a_changed_vision_tower(system: System) -> None:
    before = system.sample([problem(1)])
    system.in_learner(shift_part, "vision", 1.0)
    assert mean_gap(system.gaps(before)) > 1e-3
    system.send_weights()
    assert mean_gap(system.gaps(system.sample([problem(1)]))) < 1e-4


def test_image_tokens_are_never_sampled_even_where_they_are_likeliest(system: System) -> None:
    image = system.encoder.processor.image_token_id
    asked = [problem(number) for number in range(8)]
    model = load_model(recipe(system.folder).policy, system.folder)
    with torch.no_grad():
        states = [
            model.model(input_ids=torch.tensor([system.encoder.encode(p)]), **pixels)[0][0, -1]
            for p, pixels in ((p, system.encoder.pixels([p])) for p in asked)
        ]
    wanted = torch.stack(states).mean(0)
    assert all(state @ wanted > 0 for state in states)
    system.in_learner(_favour, image, wanted)
    system.send_weights()
    groups = system.sample(asked) + system.sample(asked, temperature=0.0)
    banned = set(system.encoder.image_token_ids)
    assert image in banned
    assert not any(banned & set(a.token_ids) for g in groups for a in g.answers)
    gaps = system.gaps(groups[: len(asked)])
    assert mean_gap(gaps) < 1e-4 and all(math.isfinite(gap) for gap in gaps)


@pytest.mark.parametrize(
    "cut", [{"top_p": 0.8}, {"top_k": 5}, {"min_p": 0.1}, {"top_p": 0.9, "top_k": 8}]
)
def test_logprobs_of_a_truncated_sampler_are_the_learners(system: System, cut: Any) -> None:
    request = SamplingRequest(4, 0.8, 24, seed=5, **cut)
    groups = system.rollouts.sample(PROBLEMS, request)
    system.in_learner(_draw_from, DistributionConfig(temperature=0.8, **cut))
    gaps = system.gaps(groups)
    system.in_learner(_draw_from, WHOLE)
    assert mean_gap(gaps) < 1e-4
    assert mean_gap(system.gaps(groups)) > 1e-2


def _draw_from(learner: Any, distribution: DistributionConfig) -> None:
    """Take the sampler for one of these. Runs in a learner."""
    learner._engine.policy._distribution = distribution


def test_a_stop_string_ends_an_answer_and_stays_in_it(system: System) -> None:
    (whole,) = system.rollouts.sample([problem(1)], SamplingRequest(1, 1.0, 24, seed=6))
    text = whole.answers[0].text
    stop = text[3:5]
    (group,) = system.rollouts.sample(
        [problem(1)], SamplingRequest(1, 1.0, 24, seed=6, stop=(stop,))
    )
    (answer,) = group.answers
    length = len(answer.token_ids)
    assert answer.finish_reason == "stop" and length < len(whole.answers[0].token_ids)
    assert answer.token_ids == whole.answers[0].token_ids[:length]
    assert answer.logprobs == whole.answers[0].logprobs[:length]
    assert stop in answer.text and stop not in answer.text[:-2]


def _favour(learner: object, token: int, state: torch.Tensor) -> None:
    """Make `token` by far the likeliest after states like `state`. Runs in a learner."""
    weights = learner._engine.policy.model.get_output_embeddings().weight  # type: ignore
    with torch.no_grad():
        weights[token] = 1e3 * state


def test_answers_under_way_during_a_sync_keep_the_version_they_began_with(system: System) -> None:
    asked = [problem(number) for number in range(16)]
    began = system.version
    pending = system.rollouts.submit(asked, SamplingRequest(4, 1.0, 128, seed=2))
    _let_begin(system)
    system.in_learner(shift_part, "language", 0.01)
    system.send_weights()
    assert pending.open
    versions = {a.version for scored in pending.result() for a in scored.group.answers}
    assert versions == {began}
    later = system.sample(asked)
    assert {a.version for g in later for a in g.answers} == {began + 1}
    assert mean_gap(system.gaps(later)) < 1e-4


def _let_begin(system: System) -> None:
    """Wait until the engine has taken up what was asked before."""
    system.sample([problem(99)], tokens=1)


def test_the_reference_policy_is_the_start_policy_and_pulls_back_to_it(system: System) -> None:
    request = SamplingRequest(4, 1.0, 24, seed=3)
    groups = system.rollouts.submit(PROBLEMS, request).result()
    rows = parity_rows([scored.group for scored in groups])
    reference = [logprobs for scored in groups for logprobs in scored.reference_logprobs or ()]
    start = system.learners.logprobs(rows)
    assert len(reference) == len(start) == 4 * len(PROBLEMS)
    for index, logprobs in enumerate(reference):
        assert logprobs == pytest.approx(start[index], abs=1e-4)

    system.learners.update(learned_from([scored.group for scored in groups]))
    still = system.rollouts.submit(PROBLEMS, request).result()
    assert still[0].reference_logprobs == groups[0].reference_logprobs
    pulled = [
        TrainingRow(
            row.problem,
            row.prompt_ids,
            tuple(
                TrainingAnswer(a.index, a.token_ids, 0.0, a.sampler_logprobs, reference[a.index])
                for a in row.answers
            ),
        )
        for row in rows
    ]
    divergence = [system.learners.update(pulled).metrics["kl"] for _ in range(4)]
    assert divergence[0] > 0 and divergence[-1] < 0.5 * divergence[0]
