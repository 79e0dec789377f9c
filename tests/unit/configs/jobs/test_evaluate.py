"""An evaluation's recipe is whole, or refused with what to do."""

import re
from typing import Any

import pytest
from pydantic import ValidationError

from configs.jobs.evaluate import EvaluateRecipe

DATA = {"source": "rows.parquet"}
SERVER = {"endpoint": "http://127.0.0.1:1/v1"}


def recipe(**changes: Any) -> EvaluateRecipe:
    fields: dict[str, Any] = {
        "name": "trial",
        "policy": {"path": "some/model"},
        "benchmarks": [{"name": "math_500"}],
    }
    return EvaluateRecipe.model_validate(fields | changes)


def test_the_protocol_is_the_paper_s_where_it_states_one() -> None:
    rollout = recipe().rollout
    assert (rollout.samples, rollout.max_new_tokens) == (5, 64_000)
    assert (rollout.temperature, rollout.top_p) == (0.6, 0.95)


def test_a_server_is_asked_as_much_as_it_may_and_engines_two_rounds() -> None:
    server = recipe(policy={"path": "m", "server": SERVER | {"parallel": 7}})
    assert server.at_a_time == 7
    engines = recipe(rollout={"workers": 3, "max_num_seqs": 10})
    assert engines.at_a_time == 60


def test_engines_that_may_come_later_are_asked_two_rounds_too() -> None:
    assert recipe(rollout={"workers": 1, "max_workers": 4, "max_num_seqs": 10}).at_a_time == 80


@pytest.mark.parametrize(
    "rollout",
    [
        {"max_workers": 4},
        {"cpus_per_worker": 2.0},
        {"dtype": "float32"},
        {"engine_args": {"kv_cache_dtype": "fp8"}},
    ],
)
def test_what_only_engines_of_our_own_read_is_refused_beside_a_server(
    rollout: dict[str, Any],
) -> None:
    ((key, value),) = rollout.items()
    with pytest.raises(ValidationError, match=re.escape(f"rollout.{key}={value}: about engines")):
        recipe(policy={"path": "m", "server": SERVER}, rollout=rollout)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"benchmarks": []}, "at least 1 item"),
        ({"benchmarks": [{"name": "mmlu"}]}, "no published benchmark that is known"),
        ({"benchmarks": [{"name": "math_500", "rule": "math"}]}, "belongs to rows of your own"),
        ({"benchmarks": [{"name": "x", "data": DATA, "limit": 3}]}, "set it in data"),
        ({"benchmarks": [{"name": "x", "data": DATA}] * 2}, "two benchmarks are called 'x'"),
        ({"rollout": {"temperature": 0}}, "every run would be the same"),
        ({"log": {"samples_per_step": 4}}, "all answers are kept"),
        (
            {"policy": {"path": "m", "server": SERVER}, "rollout": {"workers": 2}},
            "rollout.workers=2: about engines of our own, and policy.server answers",
        ),
    ],
)
def test_what_cannot_be_asked_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        recipe(**changes)
