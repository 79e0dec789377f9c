"""Loss and gradient are those of TRL's own trainers on the same answers of the same model."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer
from trl import GRPOTrainer, RLOOTrainer

from configs.jobs.grpo import GRPORecipe, PolicyConfig
from configs.schema.data import PromptConfig
from models.inputs.encoder import InputEncoder
from models.policy.loading import load_model
from models.policy.policy import Policy
from tests.unit.actors.training.trl_steps import (
    LONGEST,
    Batch,
    Loss,
    ours,
    random_batch,
    theirs,
    trainer_of,
)
from tests.unit.step_samples import recipe

Ours = tuple[Policy, InputEncoder]


@pytest.fixture(scope="module")
def policy(text: Path) -> Ours:
    encoder = InputEncoder(text, PromptConfig(), trust_remote_code=False)
    model = load_model(PolicyConfig(path=str(text), dtype="float32"), text)
    return Policy(model, encoder, chunk=1024), encoder


@pytest.fixture(scope="module")
def trainer(policy: Ours, text: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return trainer_of(GRPOTrainer, policy[0], text, tmp_path_factory.mktemp("trl"))


@pytest.fixture(scope="module")
def batch(policy: Ours, text: Path) -> Batch:
    return random_batch(*policy, end=AutoTokenizer.from_pretrained(text).eos_token_id)


def recipe_of(groups: int, loss: dict[str, Any]) -> GRPORecipe:
    """A step of so many groups; advantages are TRL's without scaling unless the loss says more."""
    rollout = {"max_new_tokens": LONGEST, "group_size": 3}
    loss = {"advantage": "group_mean"} | loss
    return recipe(loss=loss, rollout=rollout, problems_per_step=groups)


def assert_same(found: Loss, expected: Loss, share: float = 1.0) -> None:
    """`share`: ours by theirs."""
    assert found[0] * share == pytest.approx(expected[0], rel=1e-5, abs=1e-7)
    scale = max(each.abs().max().item() for each in expected[1].values())
    assert scale > 1e-3
    for name, each in expected[1].items():
        torch.testing.assert_close(found[1][name] * share, each, atol=1e-5 * scale, rtol=0)


BOUNDS = {"epsilon_low": 0.2, "epsilon_high": 0.28}
PLAIN = {
    "importance_sampling_level": "token",
    "use_vllm": False,
    "scale_rewards": "none",
    "mask_truncated_completions": False,
    "beta": 0.0,
}
SEQUENCE = {"importance_sampling_level": "sequence"}
CLIP = {"clip_low": 0.2, "clip_high": 0.28}
SAPO = {"positive": 1.2, "negative": 1.7}


def weights(mode: str, low: float | None, high: float) -> dict[str, Any]:
    """TRL's settings for importance weights of an engine's answers."""
    return BOUNDS | {
        "loss_type": "dapo",
        "use_vllm": True,
        "vllm_importance_sampling_correction": True,
        "vllm_importance_sampling_mode": mode,
        "vllm_importance_sampling_clip_min": low,
        "vllm_importance_sampling_clip_max": high,
    }


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "GRPO": (CLIP | {"aggregation": "sequence_mean"}, BOUNDS | {"loss_type": "grpo"}),
    "DAPO": (CLIP, BOUNDS | {"loss_type": "dapo"}),
    "BNPO": (CLIP, BOUNDS | {"loss_type": "bnpo"}),
    "Dr. GRPO": (CLIP | {"aggregation": "constant"}, BOUNDS | {"loss_type": "dr_grpo"}),
    "GSPO": (
        {"policy_loss": "gspo", "clip_low": 0.03, "clip_high": 0.04},
        {"epsilon_low": 0.03, "epsilon_high": 0.04, "loss_type": "grpo", **SEQUENCE},
    ),
    "CISPO": (
        {"policy_loss": "cispo", "clip_high": 0.1},
        {"epsilon_high": 1.1, "loss_type": "cispo"},
    ),
    "TIS": (CLIP | {"importance": {"high": 1.2}}, weights("token_truncate", None, 1.2)),
    "IcePop": (
        CLIP | {"importance": {"bound": "mask", "low": 0.8, "high": 1.2}},
        weights("token_mask", 0.8, 1.2),
    ),
    "TIS of answers": (
        CLIP | {"importance": {"level": "sequence", "low": 0.9, "high": 1.2}},
        weights("sequence_truncate", 0.9, 1.2),
    ),
    "masked answers": (
        CLIP | {"importance": {"level": "sequence", "bound": "mask", "low": 0.5, "high": 1.5}},
        weights("sequence_mask", 0.5, 1.5),
    ),
    "SAPO": (
        {"policy_loss": "sapo", "sapo": SAPO},
        {"loss_type": "sapo", **{f"sapo_temperature_{k[:3]}": v for k, v in SAPO.items()}},
    ),
}


KLS = {"no KL": (0.0, False), "KL": (0.1, False), "weighted KL": (0.1, True)}


# TRL weights a token's KL by the whole answer's ratio where the policy loss has that one.
@pytest.mark.parametrize(
    ("case", "divergence"), sorted(set(product(CASES, KLS)) - {("GSPO", "weighted KL")})
)
def test_loss_and_gradient_are_trl_s(
    case: str, divergence: str, trainer: Any, policy: Ours, batch: Batch
) -> None:
    loss, settings = CASES[case]
    coef, weighted = KLS[divergence]
    kl = {"kl": {"coef": coef, "estimator": "k3", "weighted": weighted}}
    settings = PLAIN | settings | {"beta": coef, "use_bias_correction_kl": weighted}
    without_flat = batch.first(2)
    found = ours(recipe_of(2, loss | kl), *policy, without_flat)
    assert_same(found, theirs(trainer, policy[0], without_flat, settings))


# The batch has 45 tokens, 17 of a flat group and 9 of an answer that was cut off, and 9 answers.
@pytest.mark.parametrize(
    ("case", "cut_off", "share"),
    [
        ("Dr. GRPO", "learned", 1),
        ("Dr. GRPO", "masked", 1),
        ("DAPO", "learned", 28 / 45),
        ("DAPO", "masked", 19 / 36),
        ("GRPO", "learned", 6 / 9),
        ("GRPO", "masked", 5 / 9),
    ],
)
def test_a_step_with_a_flat_group_is_trl_s_but_for_means_that_are_of_what_is_learned_from(
    case: str, cut_off: str, share: float, trainer: Any, policy: Ours, batch: Batch
) -> None:
    loss, settings = CASES[case]
    masked = cut_off == "masked"
    found = ours(recipe_of(3, loss | {"mask_overlong": masked}), *policy, batch)
    settings = PLAIN | settings | {"mask_truncated_completions": masked}
    assert_same(found, theirs(trainer, policy[0], batch, settings), share)


@pytest.mark.parametrize(("coef", "share"), [(0.0, 6 / 9), (0.1, 1)])
def test_rloo_is_trl_s_from_rewards_on(
    coef: float,
    share: float,
    policy: Ours,
    batch: Batch,
    text: Path,
    tmp_path: Path,
) -> None:
    # With the KL in the rewards no group is flat.
    kl = {"coef": coef, "estimator": "k1", "place": "reward"}
    loss = {"policy_loss": "rloo", "advantage": "rloo", "kl": kl, "clip_high": 0.28}
    rloo = trainer_of(RLOOTrainer, policy[0], text, tmp_path)
    settings = BOUNDS | {"beta": coef}
    found = ours(recipe_of(3, loss), *policy, batch)
    assert_same(found, theirs(rloo, policy[0], batch, settings), share)
