"""Tracing one update: the one that the recipe names, and no other."""

import json
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from actors.training.step_trace import traced_update
from configs.jobs.grpo import GRPORecipe
from configs.schema.learner import LearnerConfig, ProfileConfig


def test_the_named_update_of_the_named_rank_is_traced(tmp_path: Path) -> None:
    config = ProfileConfig(step=2, rank=1)
    for step in (1, 2, 3):
        for rank in (0, 1):
            with traced_update(config, step, rank, tmp_path / "traces"):
                torch.ones(8, 8) @ torch.ones(8, 8)
    (trace,) = (tmp_path / "traces").iterdir()
    assert trace.name == "step_2_rank_1.json"
    names = [event["name"] for event in json.loads(trace.read_text())["traceEvents"]]
    assert names.count("aten::mm") == 1


def test_nothing_is_traced_unless_the_recipe_asks(tmp_path: Path) -> None:
    with traced_update(None, 1, 0, tmp_path / "traces"):
        pass
    assert not (tmp_path / "traces").exists()


def test_a_rank_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValidationError, match="ranks count from 0; set it to at most 1"):
        LearnerConfig(ranks=2, profile=ProfileConfig(step=1, rank=2))


def test_a_step_behind_the_last_is_refused() -> None:
    recipe = {
        "name": "short",
        "steps": 3,
        "policy": {"path": "some/model"},
        "data": {"source": "rows.parquet"},
    }
    GRPORecipe.model_validate({**recipe, "learner": {"profile": {"step": 3}}})
    with pytest.raises(ValidationError, match=r"profile.step=4 never comes .* 3 updates"):
        GRPORecipe.model_validate({**recipe, "learner": {"profile": {"step": 4}}})
    several = {"minibatches": 4, "epochs": 2}
    GRPORecipe.model_validate({**recipe, "learner": {**several, "profile": {"step": 24}}})
    with pytest.raises(ValidationError, match="set it to at most 24"):
        GRPORecipe.model_validate({**recipe, "learner": {**several, "profile": {"step": 25}}})
