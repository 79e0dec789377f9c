"""How many threads a process on a CPU machine gets."""

from typing import Any

import pytest

from actors.cluster.cpu_threads import cpu_thread_variables
from configs.jobs.grpo import GRPORecipe
from rl.jobs.grpo_actors import threads_of


@pytest.mark.parametrize(
    ("cores", "share", "threads", "expected"),
    [(8, 1, None, 8), (8, 2, None, 4), (2, 4, None, 1), (8, 2, 1, 1), (8, 2, 6, 6)],
)
def test_cores_are_divided_unless_the_recipe_says_how_many_threads(
    monkeypatch: pytest.MonkeyPatch, cores: int, share: int, threads: int | None, expected: int
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    assert cpu_thread_variables(share, threads)["OMP_NUM_THREADS"] == str(expected)


@pytest.mark.parametrize(("share", "threads"), [(2, 4), (2, 1), (1, None), (3, None)])
def test_threads_that_have_a_core_each_wait_for_work_awake(
    monkeypatch: pytest.MonkeyPatch, share: int, threads: int | None
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    variables = cpu_thread_variables(share, threads)
    assert 0 < int(variables["GOMP_SPINCOUNT"]) < 100_000 and "OMP_WAIT_POLICY" not in variables


@pytest.mark.parametrize(("share", "threads"), [(2, 5), (9, None)])
def test_threads_that_share_cores_wait_asleep(
    monkeypatch: pytest.MonkeyPatch, share: int, threads: int | None
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    variables = cpu_thread_variables(share, threads)
    assert variables["OMP_WAIT_POLICY"] == "PASSIVE" and "GOMP_SPINCOUNT" not in variables


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"rollout": 8, "learner": 8}),
        ({"loss": {"kl": {"coef": 0.1}}}, {"rollout": 4, "reference": 4, "learner": 8}),
        ({"rollout": {"workers": 2}, "learner": {"ranks": 4}}, {"rollout": 4, "learner": 2}),
        ({"max_staleness": 1}, {"rollout": 4, "learner": 4}),
        ({"rollout": {"cpu_threads": 3}}, {"rollout": 3, "learner": 8}),
    ],
)
def test_actors_that_compute_at_the_same_time_share_the_cores(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], expected: dict[str, int]
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    fields = {
        "name": "shared",
        "data": {"source": "digits"},
        "start": {},
        "loss": {"kl": {"coef": 0.0}},
    }
    recipe = GRPORecipe.model_validate(fields | changes)
    found = {role: int(threads_of(recipe, role)["OMP_NUM_THREADS"]) for role in expected}
    assert found == expected
