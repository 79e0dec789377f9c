"""The learner's tokens a second, MFU and peak memory on a GPU, with random weights.

    python benchmarks/gpu_learner.py --out gpu_learner.json --size 1.5b
    torchrun --nproc-per-node 8 benchmarks/gpu_learner.py --out gpu_learner.json --size 7b --zero 3
    python benchmarks/gpu_learner.py --out gpu_learner.json --size tiny     # anywhere: does it run?

A step is a forward and backward pass over a packed row of `--tokens` tokens (a picture of 448 x 448
with 256 tokens, a prompt, and answers behind it), and AdamW's update through DeepSpeed. shared: one
prompt for all answers; plain: one for each. The model is an InternVL tower of 300 million weights
before a Qwen2 of the size. MFU counts six FLOP a weight and token, and attention's products, but
not what is computed again, over the machine's peak: what a product of large matrices reaches here.
Needs torch, transformers and DeepSpeed; no Ray, no vLLM.
"""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    Qwen2Config,
)

from actors.training.deepspeed_engine import DeepSpeedEngine
from benchmarks import measuring
from configs.schema.learner import LearnerConfig
from models.inputs.packing import PackedBatch, pack
from models.policy.loading import recompute_activations
from models.policy.policy import Policy
from rl.algorithms.rows import TrainingAnswer, TrainingRow
from rl.data.records import Problem

IMAGE, VOCABULARY = 5, 151_936
PICTURE, PATCH, IMAGE_TOKENS = 448, 14, 256
PROMPT, ANSWER = 512, 512


@dataclass(frozen=True, slots=True)
class Size:
    """A language model and its tower."""

    hidden: int
    layers: int
    heads: int
    key_heads: int
    mlp: int
    vision_hidden: int = 1024
    vision_layers: int = 24


SIZES = {
    "tiny": Size(64, 2, 4, 2, 128, 64, 2),
    "1.5b": Size(1536, 28, 12, 2, 8960),
    "7b": Size(3584, 28, 28, 4, 18_944),
}


def model_of(size: Size, vocabulary: int, device: torch.device, dtype: torch.dtype) -> Any:
    """Random weights on the device."""
    vision = InternVLVisionConfig(
        hidden_size=size.vision_hidden,
        num_hidden_layers=size.vision_layers,
        num_attention_heads=max(1, size.vision_hidden // 64),
        intermediate_size=4 * size.vision_hidden,
        image_size=[PICTURE, PICTURE],
        patch_size=[PATCH, PATCH],
    )
    text = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.key_heads,
        intermediate_size=size.mlp,
        max_position_embeddings=32_768,
    )
    config = InternVLConfig(vision_config=vision, text_config=text, image_token_id=IMAGE)
    config._attn_implementation = "sdpa"
    torch.set_default_dtype(dtype)
    try:
        with device:
            return InternVLForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(torch.float32)


def batches(tokens: int, shared: bool) -> list[PackedBatch]:
    """Passes over as many answers as fit a row of `tokens` tokens behind one prompt."""
    draw = torch.Generator().manual_seed(0)

    def ids(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(10, 300, (count,), generator=draw).tolist())

    count = max(1, (tokens - PROMPT) // ANSWER)
    prompt = ((IMAGE,) * IMAGE_TOKENS) + ids(PROMPT - IMAGE_TOKENS)
    answers = tuple(TrainingAnswer(i, ids(ANSWER)) for i in range(count))
    whole = TrainingRow(Problem("p", "?", ("1",)), prompt, answers)
    size = max(1, tokens // (PROMPT + ANSWER))
    alone = [replace(whole, answers=(answer,)) for answer in answers]
    plan = [(whole,)] if shared else [tuple(alone[i : i + size]) for i in range(0, count, size)]
    picture = torch.randn(1, 3, PICTURE, PICTURE)
    return [pack(rows, 0, {"pixel_values": picture.expand(len(rows), -1, -1, -1)}) for rows in plan]


def step(engine: DeepSpeedEngine, passes: list[PackedBatch], dtype: torch.dtype) -> None:
    """Forward and backward passes, and the update."""
    for batch in passes:
        there = batch.to(engine.device)
        pixels = {name: value.to(dtype) for name, value in there.pixels.items()}
        logprobs_N, *_ = engine.forward(replace(there, pixels=pixels))
        engine.backward(-logprobs_N.mean())
    engine.step()


def timed(way: Callable[[], object], device: torch.device) -> float:
    """Seconds, until the device is done."""
    began = time.perf_counter()
    way()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a product of two large matrices."""
    side = 8192 if device.type == "cuda" else 1024
    a = torch.randn(side, side, device=device, dtype=dtype)
    return 2 * side**3 / min(timed(lambda: a @ a, device) for _ in range(10))


def flops(size: Size, passes: list[PackedBatch], language: int, tower: int) -> float:
    """Of a step, without what gradient checkpointing computes again."""
    patches = (PICTURE // PATCH) ** 2
    rows = sum(len(batch.input_ids) for batch in passes)
    read = sum(batch.input_ids.numel() for batch in passes)
    pairs = sum(int(batch.attention_mask.sum()) for batch in passes)
    products = 12 * size.layers * size.hidden * pairs
    products += 12 * size.vision_layers * size.vision_hidden * patches**2 * rows
    predicted = sum(len(batch.targets) for batch in passes)
    head = size.hidden * VOCABULARY if language > 10**8 else 0
    return 6.0 * (language * read + head * predicted + tower * patches * rows) + products


def matrices(module: torch.nn.Module) -> int:
    """Weights that multiply."""
    return sum(
        p.ds_numel if hasattr(p, "ds_numel") else p.numel()
        for p in module.parameters()
        if len(getattr(p, "ds_shape", p.shape)) >= 2
    )


def main() -> None:
    options = measuring.parser(__doc__, rounds=5)
    options.add_argument("--size", choices=SIZES, default="1.5b")
    options.add_argument("--tokens", type=int, default=8192, help="of a packed row")
    options.add_argument("--zero", type=int, choices=range(4), default=2, help="ZeRO stage")
    options.add_argument("--offload", action="store_true", help="optimizer state on the host")
    chosen = options.parse_args()
    for name, alone in (("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "1")):
        os.environ.setdefault(name, alone)
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29555")
    on_gpu = torch.cuda.is_available()
    device = torch.device(f"cuda:{os.environ['LOCAL_RANK']}" if on_gpu else "cpu")
    dtype = torch.bfloat16 if on_gpu else torch.float32
    if on_gpu:
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl" if on_gpu else "gloo")
    size = SIZES[chosen.size]
    model = model_of(size, 1024 if chosen.size == "tiny" else VOCABULARY, device, dtype)
    language, tower = (
        matrices(model.model.language_model.layers),
        matrices(model.model.vision_tower),
    )
    recompute_activations(model)
    encoder: Any = SimpleNamespace(image_token_ids=(IMAGE,), has_vision=False)
    policy = Policy(model, encoder, chunk=1024)
    learner = LearnerConfig(zero_stage=chosen.zero, offload=chosen.offload)
    engine = DeepSpeedEngine(policy, learner, str(dtype).removeprefix("torch."), 1000)
    passes = {"shared": batches(chosen.tokens, True), "plain": batches(chosen.tokens, False)}
    ways = {name: lambda p=p: step(engine, p, dtype) for name, p in passes.items()}
    took: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(chosen.rounds + 2):
        for name, way in ways.items():
            spent = timed(way, device)
            if turn >= 2:
                took[name].append(spent)
    peak = peak_flops(device, dtype)
    if torch.distributed.get_rank() == 0:
        figures, ratios = told(size, passes, took, peak, (language, tower))
        if on_gpu:
            figures["device"] = torch.cuda.get_device_name(device)
            figures["peak_memory_gb"] = torch.cuda.max_memory_allocated(device) / 1e9
        goals = {"mfu": 0.45}
        title = f"The learner, {chosen.size}"
        measuring.report(chosen.out, title, figures=figures, ratios=ratios, goals=goals)


def told(
    size: Size,
    passes: dict[str, list[PackedBatch]],
    took: dict[str, list[float]],
    peak: float,
    weights: tuple[int, int],
) -> tuple[dict[str, Any], dict[str, float]]:
    """Figures of one rank, and ratios."""
    read = sum(batch.input_ids.numel() for batch in passes["shared"])
    answered = sum(len(batch.targets) for batch in passes["shared"])
    figures: dict[str, Any] = {
        "peak_tflop_per_s": peak / 1e12,
        "packed_tokens_per_s": read / median(took["shared"]),
        **{f"{way}_answer_tokens_per_s": answered / median(s) for way, s in took.items()},
    }
    mfu = flops(size, passes["shared"], *weights) / median(took["shared"]) / peak
    gain = measuring.times_faster(took, "shared", "plain")
    return figures, {"mfu": mfu, "shared_over_plain": gain}


if __name__ == "__main__":
    main()
