"""What holds of every family of models: a step is served as it was learned."""

from collections.abc import Sequence
from dataclasses import replace

from rl.algorithms.parity import parity_rows
from rl.data.records import Experts, Problem
from tests.ray.system import System, learned_from, mean_gap, problem, token_gaps

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


def check_tokens_go_where_the_engine_sent_them(
    system: System, problems: Sequence[Problem], gap: float = 1e-4
) -> None:
    """Learners of a mixture of experts give the engine's logprobs with its choices, and others with
    others': they do not choose themselves. `gap`: most between the two on average, nats."""
    rows = parity_rows(system.sample(problems, tokens=TOKENS))
    told = [(own, read) for row in rows for own, read in zip(row.experts, row.lengths, strict=True)]
    assert all(own is not None and len(own) == read for own, read in told)
    assert mean_gap(token_gaps(rows, system.learners.logprobs(rows))) < gap
    others = [replace(row, prompt_experts=_others(row.prompt_experts)) for row in rows]
    assert mean_gap(token_gaps(others, system.learners.logprobs(others))) > 10 * gap


def _others(chosen: Experts | None) -> Experts:
    """Two of four experts, the others each time where they were 0 and 1, or 2 and 3."""
    assert chosen is not None
    return (chosen + 2) % 4
