"""Loss and gradient are those of TRL's own GRPOTrainer on the same batch of the same model."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from actors.training.answer_loss import AnswerLoss
from configs.jobs.grpo import GRPORecipe, PolicyConfig
from configs.schema.data import PromptConfig
from models.inputs.encoder import InputEncoder
from models.inputs.packing import pack
from models.policy.loading import load_model
from models.policy.policy import Policy
from rl.algorithms.minibatches import UpdatePlan
from rl.algorithms.rows import TrainingAnswer, TrainingRow, build_microbatches, count_tokens
from rl.data.records import Problem
from tests.unit.step_samples import recipe

PROMPTS = ((5, 6, 7), (8, 9, 10, 11, 12))
LENGTHS = ((4, 7, 1), (2, 9, 5))
"""Tokens of each answer to the two prompts."""
LONGEST = 9


@dataclass
class Batch:
    """The same answers for both sides; each list has one entry an answer."""

    answers: list[Tensor]
    old: list[Tensor]
    sampler: list[Tensor]
    """Where it is not the old policy itself."""
    reference: list[Tensor]
    advantages: list[float]


@pytest.fixture(scope="module")
def policy(text: Path) -> tuple[Policy, InputEncoder]:
    encoder = InputEncoder(text, PromptConfig(), trust_remote_code=False)
    model = load_model(PolicyConfig(path=str(text), dtype="float32"), text)
    return Policy(model, encoder, chunk=1024), encoder


@pytest.fixture(scope="module")
def trainer(
    policy: tuple[Policy, InputEncoder], text: Path, tmp_path_factory: pytest.TempPathFactory
) -> GRPOTrainer:
    """TRL's trainer around the same model; what differs from test to test is set on it."""
    return GRPOTrainer(
        policy[0].model,
        lambda completions, **_: [0.0] * len(completions),
        GRPOConfig(
            str(tmp_path_factory.mktemp("trl")),
            use_cpu=True,
            bf16=False,
            report_to=[],
            num_generations=3,
            per_device_train_batch_size=6,
            max_completion_length=LONGEST,
            gradient_checkpointing=False,
        ),
        Dataset.from_list([{"prompt": "1"}] * 6),
        processing_class=AutoTokenizer.from_pretrained(text),
    )


@pytest.fixture(scope="module")
def batch(policy: tuple[Policy, InputEncoder]) -> Batch:
    """Random answers; the old policy and the reference are near the one that learns."""
    chance = torch.Generator().manual_seed(7)
    lengths = [length for group in LENGTHS for length in group]
    answers = [torch.randint(40, 300, (length,), generator=chance) for length in lengths]
    made = Batch(answers, [], [], [], torch.randn(len(lengths), generator=chance).tolist())
    rows = rows_of(made)
    with torch.no_grad():
        logprobs = policy[0](pack(tuple(rows), policy[1].pad_id))[0].split(lengths)
    for near in (made.old, made.sampler, made.reference):
        near += [own + 0.3 * torch.randn(len(own), generator=chance) for own in logprobs]
    return made


def values(of: list[Tensor], place: int) -> tuple[float, ...] | None:
    return tuple(of[place].tolist()) if of else None


def rows_of(batch: Batch, *, corrected: bool = False) -> list[TrainingRow]:
    """One row for each prompt, its answers numbered over all; `corrected`: sampler and old policy
    are two."""
    sampler, old = (batch.sampler, batch.old) if corrected else (batch.old, [])
    rows: list[TrainingRow] = []
    for group, prompt in enumerate(PROMPTS):
        first = 3 * group
        answers = tuple(
            TrainingAnswer(
                place,
                tuple(batch.answers[place].tolist()),
                batch.advantages[place],
                values(sampler, place),
                values(batch.reference, place),
                old_logprobs=values(old, place),
            )
            for place in range(first, first + 3)
        )
        rows.append(TrainingRow(Problem(str(group), "?", ("1",)), prompt, answers))
    return rows


def gradient_of(policy: Policy, loss: Tensor) -> dict[str, Tensor]:
    names, parameters = zip(*policy.model.named_parameters(), strict=True)
    found = torch.autograd.grad(loss, parameters)
    return dict(zip(names, found, strict=True))


def ours(
    made: GRPORecipe, policy: tuple[Policy, InputEncoder], batch: Batch
) -> tuple[float, dict[str, Tensor]]:
    """The step's loss and gradient, in micro-batches for two ranks."""
    plan = UpdatePlan.of(made)
    (rows,) = plan.split(rows_of(batch, corrected=made.loss.importance is not None))
    loss, total = AnswerLoss(made.loss), torch.zeros(())
    for rank in build_microbatches(rows, 24, ranks=2):
        for microbatch in rank:
            packed = pack(microbatch, policy[1].pad_id)
            loss_N, _ = loss(packed, *policy[0](packed))
            total = total + (loss_N * packed.weights).sum() / count_tokens(rows)
    return total.item(), gradient_of(policy[0], total)


def padded(values: Sequence[Tensor]) -> Tensor:
    return pad_sequence(list(values), batch_first=True)


def theirs(
    trainer: GRPOTrainer, policy: Policy, batch: Batch, settings: dict[str, Any]
) -> tuple[float, dict[str, Tensor]]:
    """What TRL makes of the batch with these of its settings."""
    for name, value in settings.items():
        for place in (trainer, trainer.args):  # some are read here, some there
            setattr(place, name, value)
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    prompts = [torch.tensor(prompt) for prompt in PROMPTS for _ in range(3)]
    width = max(map(len, prompts))
    mask = padded([torch.ones_like(answer) for answer in batch.answers])
    inputs = {
        "prompt_ids": torch.stack([torch.cat([p.new_zeros(width - len(p)), p]) for p in prompts]),
        "prompt_mask": torch.stack(
            [torch.cat([p.new_zeros(width - len(p)), torch.ones_like(p)]) for p in prompts]
        ),
        "completion_ids": padded(batch.answers),
        "completion_mask": mask,
        "advantages": torch.tensor(batch.advantages),
        "old_per_token_logps": padded(batch.old),
        "ref_per_token_logps": padded(batch.reference),
        "num_items_in_batch": mask.sum(),
        "importance_sampling_ratio": torch.exp(padded(batch.old) - padded(batch.sampler)).clamp(
            max=1.2
        ),
    }
    loss = trainer._compute_loss(policy.model, inputs)
    return loss.item(), gradient_of(policy, loss)


BOUNDS = {"epsilon_low": 0.2, "epsilon_high": 0.28}
PLAIN = {"importance_sampling_level": "token", "use_vllm": False}
SEQUENCE = {"importance_sampling_level": "sequence"}
CLIP = {"clip_low": 0.2, "clip_high": 0.28}
SAPO = {"positive": 1.2, "negative": 1.7}
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
    "TIS": (
        CLIP | {"importance": {"high": 1.2}},
        BOUNDS
        | {"loss_type": "dapo", "use_vllm": True, "vllm_importance_sampling_correction": True},
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
    case: str,
    divergence: str,
    trainer: GRPOTrainer,
    policy: tuple[Policy, InputEncoder],
    batch: Batch,
) -> None:
    loss, settings = CASES[case]
    coef, weighted = KLS[divergence]
    kl = {"kl": {"coef": coef, "estimator": "k3", "weighted": weighted}}
    settings = PLAIN | settings | {"beta": coef, "use_bias_correction_kl": weighted}
    made = recipe(loss=loss | kl, rollout={"max_new_tokens": LONGEST})
    found, gradient = ours(made, policy, batch)
    expected, their_gradient = theirs(trainer, policy[0], batch, settings)
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-7)
    scale = max(each.abs().max().item() for each in their_gradient.values())
    assert scale > 1e-3
    for name, each in their_gradient.items():
        torch.testing.assert_close(gradient[name], each, atol=1e-5 * scale, rtol=0)
