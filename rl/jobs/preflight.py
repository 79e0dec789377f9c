"""The checks before step 1, run on the real engines and learners."""

from dataclasses import replace

from configs.jobs.grpo import GRPORecipe
from models.inputs.encoder import InputEncoder
from rl.algorithms.parity import check_logprobs, check_prompts, parity_rows
from rl.data.records import Problem, SamplingRequest, ScoredGroup
from rl.data.training_problems import TrainingProblems
from rl.jobs.grpo_actors import RunningActors

_LOOKED_AT = 256
_TOKENS = 64


def preflight(
    recipe: GRPORecipe, problems: TrainingProblems, encoder: InputEncoder, actors: RunningActors
) -> float:
    """Let engine and learner read the same problems; the mean logprob gap in nats.

    Raises:
        ParityError: they see different prompts, or give the same tokens different logprobs.
    """
    asked = _sample(problems, recipe.preflight.problems)
    limit = min(_TOKENS, recipe.rollout.max_new_tokens)
    request = SamplingRequest.drawn(recipe.rollout, count=2, max_new_tokens=limit, seed=recipe.seed)
    request = replace(request, experts=recipe.rollout.routing_replay)
    groups = actors.rollouts.sample(asked, request)
    expected = [encoder.encode(problem) for problem in asked]
    check_prompts(groups, expected, encoder.tokenizer.convert_ids_to_tokens)
    rows = parity_rows(groups)
    return check_logprobs(rows, actors.learners.logprobs(rows), recipe.preflight.max_logprob_gap)


def graded_answer(
    recipe: GRPORecipe, problems: TrainingProblems, actors: RunningActors
) -> ScoredGroup:
    """One answer of the real engine, scored by the real rewards, to be looked at by a person."""
    rollout = recipe.rollout
    request = SamplingRequest.drawn(
        rollout, count=1, max_new_tokens=rollout.max_new_tokens, seed=recipe.seed
    )
    (group,) = actors.rollouts.submit(_sample(problems, 1), request).result()
    return group


def _sample(problems: TrainingProblems, count: int) -> list[Problem]:
    """The first problems with images, filled up with others where there are too few."""
    looked_at = problems.first(_LOOKED_AT)
    return sorted(looked_at, key=lambda problem: not problem.images)[:count]
