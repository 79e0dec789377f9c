"""Forward and backward passes over groups of answers: one prompt for all, or one for each.

    python benchmarks/learner.py --out learner.json

shared: a row of the prompt and all its answers, as the learner packs them. plain: rows of a prompt
and one answer, those of like length together. padded: the same rows, all in one rectangle. The same
R1V of 52 million parameters, picture of 448 x 448, prompt of 320 tokens, answers of 64 to 128.
The ideal is the ratio of tokens read, (G (P + R)) / (P + G R). Passes are by turns; peak is what a
product of two large matrices reaches on all cores in the same minutes.
"""

import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from benchmarks import measuring
from benchmarks.untrained import PICTURES
from configs.schema.data import PromptConfig
from configs.schema.policy import PolicyConfig
from models.inputs.encoder import InputEncoder
from models.inputs.packing import pack
from models.policy.loading import load_model
from models.policy.policy import Policy
from models.tiny.model import build_tiny_vlm
from rl.algorithms.rows import TrainingAnswer, TrainingRow, build_microbatches
from rl.data.records import Problem

PROMPT, SHORTEST, LONGEST = 320, 64, 128
GROUPS = (4, 8, 16)
BUDGET = 4096
"""Tokens of a pass."""


def group(answers: int, encoder: InputEncoder) -> TrainingRow:
    """A problem with a picture, and answers whose lengths spread evenly."""
    draw = torch.Generator().manual_seed(answers)

    def ids(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(40, 300, (count,), generator=draw).tolist())

    image = encoder.tokenizer.convert_tokens_to_ids(encoder.processor.image_token)
    shown = (image,) * PICTURES.image_tokens
    prompt = (*shown, *ids(PROMPT - len(shown)))
    lengths = np.linspace(SHORTEST, LONGEST, answers).astype(int).tolist()
    made = tuple(TrainingAnswer(i, ids(n), 1.0) for i, n in enumerate(lengths))
    return TrainingRow(Problem("p", "?", ("1",)), prompt, made)


def laid_out(row: TrainingRow, way: str) -> list[tuple[TrainingRow, ...]]:
    """The row's micro-batches in one of the ways."""
    alone = [replace(row, answers=(answer,)) for answer in row.answers]
    if way == "padded":
        size = max(1, BUDGET // max(one.length for one in alone))
        return [tuple(alone[i : i + size]) for i in range(0, len(alone), size)]
    return list(build_microbatches([row] if way == "shared" else alone, BUDGET, 1)[0])


def step(
    policy: Policy, batches: Sequence[tuple[TrainingRow, ...]], pixels_1: torch.Tensor
) -> Callable[[], None]:
    """All passes of a step."""

    def run() -> None:
        for batch in batches:
            pixels = {"pixel_values": pixels_1.expand(len(batch), -1, -1, -1)}
            logprobs_N, *_ = policy(pack(batch, 0, pixels))
            logprobs_N.sum().backward()
        policy.zero_grad()

    return run


def matmul_peak(rounds: int) -> float:
    """FLOP/s of a product of two matrices of 2048 x 2048 in float32."""
    a = torch.randn(2048, 2048)
    took = measuring.by_turns({"matmul": lambda: a @ a}, 5 * rounds)
    return 2 * 2048**3 / min(took["matmul"])


def flops(policy: Policy, rows: int, tokens: int) -> float:
    """Of a forward and backward pass: six a weight and token; attention is left out."""
    model: Any = policy.model
    tower = sum(p.numel() for p in model.model.vision_tower.parameters() if p.ndim == 2)
    language = sum(p.numel() for p in model.model.language_model.layers.parameters() if p.ndim == 2)
    patches = (PICTURES.image // PICTURES.patch) ** 2
    return 6.0 * (tower * patches * rows + language * tokens)


def measured(policy: Policy, encoder: InputEncoder, answers: int, rounds: int) -> dict[str, Any]:
    """Seconds and ratios of a group of so many answers."""
    row = group(answers, encoder)
    pixels_1 = torch.randn(1, 3, PICTURES.image, PICTURES.image)
    plans = {way: laid_out(row, way) for way in ("shared", "plain", "padded")}
    ways = {way: step(policy, batches, pixels_1) for way, batches in plans.items()}
    took = measuring.by_turns(ways, rounds, warm_up=int(answers == GROUPS[0]))
    read = {way: sum(r.length for b in plans[way] for r in b) for way in plans}
    ideal = read["plain"] / read["shared"]
    gain = measuring.times_faster(took, "shared", "plain")
    rows = sum(len(b) for b in plans["shared"])
    work = flops(policy, rows, read["shared"])
    tokens = sum(len(a.token_ids) for a in row.answers)
    return {
        "seconds": measuring.medians(took),
        "answer_tokens_per_s": {way: tokens / median(s) for way, s in took.items()},
        "flop_per_s": work / median(took["shared"]),
        "ideal": ideal,
        "gain": gain,
        "gain_over_padded": measuring.times_faster(took, "shared", "padded"),
    }


def main() -> None:
    options = measuring.parser(__doc__, rounds=3)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        build_tiny_vlm(Path(folder), 0, PICTURES)
        encoder = InputEncoder(folder, PromptConfig(), False)
        model = load_model(PolicyConfig(path=folder, dtype="float32"), folder)
    policy = Policy(model, encoder, chunk=1024)
    peak = matmul_peak(chosen.rounds)
    figures: dict[str, Any] = {"matmul_gflop_per_s": peak / 1e9}
    ratios: dict[str, float] = {}
    for answers in GROUPS:
        found = measured(policy, encoder, answers, chosen.rounds)
        for way, speed in found["answer_tokens_per_s"].items():
            figures[f"{way}_{answers}_answer_tokens_per_s"] = speed
        figures[f"ideal_{answers}"] = found["ideal"]
        ratios[f"shared_over_plain_{answers}"] = found["gain"]
        ratios[f"shared_over_padded_{answers}"] = found["gain_over_padded"]
        ratios[f"share_of_ideal_{answers}"] = found["gain"] / found["ideal"]
        ratios[f"share_of_peak_{answers}"] = found["flop_per_s"] / peak
    goals = {f"share_of_ideal_{answers}": 0.8 for answers in GROUPS}
    measuring.report(
        chosen.out, "The learner's passes", figures=figures, ratios=ratios, goals=goals
    )


if __name__ == "__main__":
    main()
