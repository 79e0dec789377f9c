"""What holds of every family of models: a step is served as it was learned."""

from collections.abc import Sequence

from rl.data.records import Problem
from tests.ray.system import System, learned_from, mean_gap, problem

TOKENS = 24
PICTURES = [
    problem(1, size=(56, 56)),
    problem(2, size=(150, 60)),
    problem(3, size=(40, 130)),
    problem(4, images=2, size=(90, 60)),
    problem(5, images=0),
]
"""Of several shapes, several in one prompt, and none."""


def check_a_step_is_served_as_it_was_learned(
    system: System, problems: Sequence[Problem], updates: int = 1
) -> None:
    """Prompts and logprobs agree, an update changes answers, and engines give the new ones."""
    before = system.sample(problems, temperature=0.0, tokens=TOKENS)
    groups = system.sample(problems, tokens=TOKENS)
    assert [g.prompt_ids for g in groups] == [system.encoder.encode(p) for p in problems]
    assert mean_gap(system.gaps(groups)) < 1e-4
    for number in range(updates):
        report = system.learners.update(learned_from(groups))
        assert not report.skipped
        assert number > 0 or report.metrics["logprob_gap"] < 1e-4
    assert mean_gap(system.gaps(groups)) > 1e-3
    system.send_weights()
    after = system.sample(problems, temperature=0.0, tokens=TOKENS)
    expected = system.greedy_by_transformers(problems, TOKENS)
    assert [group.answers[0].token_ids for group in after] == expected
    assert [group.answers[0].token_ids for group in before] != expected
    assert mean_gap(system.gaps(system.sample(problems, tokens=TOKENS))) < 1e-4
