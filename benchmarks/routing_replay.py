"""How far sampler and learner are apart where each chooses experts, and where they are replayed.

    python benchmarks/routing_replay.py --out routing_replay.json

A mixture of experts of random weights, the real engine, the learner's own forward pass; on this
machine's CPU.
"""

import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

from benchmarks import measuring
from models.inputs.encoder import InputEncoder
from models.inputs.packing import pack
from models.policy.loading import load_model
from models.policy.policy import Policy, logprobs_by_answer
from rl.algorithms.parity import parity_rows
from rl.algorithms.rows import TrainingRow
from tests.family_parts import language_fields, save_model, tokenizer_with
from tests.own_choices import own_choices
from tests.ray.actors.rollout.family_path import Engine, register
from tests.ray.system import problem, recipe, token_gaps

SIZE = {"hidden_size": 256, "num_hidden_layers": 8, "num_attention_heads": 8}
EXPERTS = {"num_experts": 32, "num_experts_per_tok": 4, "moe_intermediate_size": 64}
PROBLEMS, TOKENS = 48, 16


def build(folder: Path) -> None:
    """Write the mixture."""
    tokenizer = tokenizer_with()
    config = Qwen3MoeConfig(**language_fields(tokenizer) | SIZE, **EXPERTS, norm_topk_prob=True)
    save_model(lambda: Qwen3MoeForCausalLM(config), tokenizer, folder)
    tokenizer.save_pretrained(folder)


def measure(folder: Path, dtype: str) -> dict[str, float]:
    """Gaps in nats, and how often the two route otherwise."""
    plan = recipe(
        folder,
        policy={"path": str(folder), "dtype": dtype},
        prompt={"max_tokens": 128},
        rollout={"max_new_tokens": TOKENS, "enforce_eager": True, "routing_replay": True},
    )
    encoder = InputEncoder(folder, plan.prompt, False)
    asked = [problem(number, images=0) for number in range(PROBLEMS)]
    rows = parity_rows(Engine(folder, plan, encoder).sample(asked))
    policy = Policy(load_model(plan.policy, folder), encoder, chunk=64)
    told = gaps(policy, encoder, rows)
    own = gaps(policy, encoder, [without_choices(row) for row in rows])
    alike = torch.cat([routed_alike(policy, encoder, row) for row in rows])
    return {
        "replayed, mean": fmean(told),
        "own, mean": fmean(own),
        "replayed, worst": max(told),
        "own, worst": max(own),
        "routed otherwise, of tokens and layers": 1 - alike.float().mean().item(),
        "routed otherwise somewhere, of tokens": 1 - alike.all(1).float().mean().item(),
    }


@torch.no_grad()
def gaps(policy: Policy, encoder: InputEncoder, rows: Sequence[TrainingRow]) -> list[float]:
    """|sampler - learner| of each answer token, nats."""
    found: dict[int, tuple[float, ...]] = {}
    for row in rows:
        batch = pack((row,), encoder.pad_id)
        found |= logprobs_by_answer(batch, policy(batch)[0])
    return token_gaps(rows, found)


def without_choices(row: TrainingRow) -> TrainingRow:
    """The row whose experts the learner chooses."""
    answers = tuple(replace(answer, experts=None) for answer in row.answers)
    return replace(row, answers=answers, prompt_experts=None)


def routed_alike(policy: Policy, encoder: InputEncoder, row: TrainingRow) -> Any:
    """bool [T, layers]."""
    batch = pack((row,), encoder.pad_id)
    own = own_choices(policy, policy.model, batch)
    assert batch.experts is not None
    return (batch.experts[0].long().sort(-1)[0] == own.sort(-1)[0]).all(-1)


def main() -> None:
    """Measure both precisions."""
    options = measuring.parser(__doc__, rounds=1).parse_args()
    os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"
    register()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as aside:
        build(Path(aside))
        for dtype in ("float32", "bfloat16"):
            found = measure(Path(aside), dtype)
            figures |= {f"{dtype}, {name}": value for name, value in found.items()}
    ratio = figures["bfloat16, own, mean"] / figures["bfloat16, replayed, mean"]
    measuring.report(
        options.out,
        "Sampler and learner, nats apart",
        figures=figures,
        ratios={"how much nearer replay brings them in bfloat16": ratio},
    )


if __name__ == "__main__":
    main()
