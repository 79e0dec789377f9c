"""Importance weights by hand."""

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from configs.schema.loss import ImportanceConfig, LossConfig
from rl.objectives.importance import importance_weights
from rl.objectives.policy_losses import AnswerTokens

# Learner over sampler of each token; answer 4 has three tokens, answer 2 has two.
RATIOS, ANSWERS = [4.0, 0.5, 0.1, 1.5, 1.2], [4, 4, 4, 2, 2]


def weights(**config: Any) -> tuple[list[float], list[bool]]:
    sampler = torch.full((5,), -1.0)
    old = sampler + torch.tensor(RATIOS).log()
    tokens = AnswerTokens(old.clone(), old, torch.ones(5), torch.tensor(ANSWERS))
    found, bounded = importance_weights(tokens, sampler, ImportanceConfig(**config))
    return found.tolist(), bounded.tolist()


@pytest.mark.parametrize(
    ("config", "by_hand", "bounded"),
    [
        ({}, [2.0, 0.5, 0.1, 1.5, 1.2], [1, 0, 0, 0, 0]),
        ({"low": 0.25, "high": 1.3}, [1.3, 0.5, 0.25, 1.3, 1.2], [1, 0, 1, 1, 0]),
        # IcePop: what is far from 1 on either side is left out, the rest keeps its weight.
        (
            {"bound": "mask", "low": 0.5, "high": 2.0},
            [0.0, 0.5, 0.0, 1.5, 1.2],
            [1, 0, 1, 0, 0],
        ),
        # 4 * 0.5 * 0.1 = 0.2 and 1.5 * 1.2 = 1.8 for all of their tokens.
        ({"level": "sequence"}, [0.2, 0.2, 0.2, 1.8, 1.8], [0] * 5),
        ({"level": "sequence", "high": 1.5}, [0.2, 0.2, 0.2, 1.5, 1.5], [0, 0, 0, 1, 1]),
        (
            {"level": "sequence", "bound": "mask", "low": 0.5},
            [0.0, 0.0, 0.0, 1.8, 1.8],
            [1, 1, 1, 0, 0],
        ),
    ],
)
def test_weights_by_hand(config: dict[str, Any], by_hand: list[float], bounded: list[int]) -> None:
    found, acts = weights(**config)
    assert found == pytest.approx(by_hand, abs=1e-6)
    assert acts == [bool(flag) for flag in bounded]


def test_a_weight_that_no_float_holds_is_bounded_all_the_same() -> None:
    sampler, old = torch.full((2,), -90.0), torch.zeros(2)
    tokens = AnswerTokens(old, old, torch.ones(2), torch.tensor([0, 0]))
    for bound, by_hand in (("truncate", 2.0), ("mask", 0.0)):
        config = ImportanceConfig(level="sequence", bound=bound)
        assert math.exp(180) > torch.finfo(torch.float32).max
        assert importance_weights(tokens, sampler, config)[0].tolist() == [by_hand] * 2


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"importance": {"low": 2.0}}, "low=2 is not below high=2"),
        ({"importance": {}, "old_policy": "sampler"}, "a ratio to the sampler corrects already"),
        ({"importance": {}, "kind": "distill"}, "no policy loss enters there"),
        ({"old_policy": "learner", "kind": "distill"}, "no policy loss enters there"),
    ],
)
def test_what_contradicts_itself_is_refused(config: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        LossConfig.model_validate(config)
