"""GRPO runs of policies with random weights, of a size that one chooses, for time and memory.

An untrained policy with many tokens hardly ever ends an answer, so answers are as long as they may
be; and the reward differs among them, so that there is something to learn from.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from configs.jobs.grpo import GRPORecipe
from configs.schema.policy import ModelConfig
from models.policy.loading import load_model
from models.tiny.model import TinySize, build_tiny_text, build_tiny_vlm

PICTURES = TinySize(
    hidden=512,
    layers=8,
    heads=8,
    mlp=1536,
    vision_hidden=512,
    vision_layers=8,
    vision_heads=8,
    image=448,
    context=2048,
)
"""An R1V of 52 million parameters, 256 image tokens a picture."""
VOCABULARY = 8192
REWARD = """\
def even(problem, completion):
    return float(len(completion.text) % 2 == 0)
"""


def untrained_run(
    folder: Path, size: TinySize, *, steps: int, problems: int, tokens: int, pictures: bool = True
) -> GRPORecipe:
    """A recipe whose policy, rows and reward are made in `folder`; groups of eight.

    `tokens`: of each answer; prompts have about 280, with a picture or without.
    """
    policy = folder / "policy"
    (build_tiny_vlm if pictures else build_tiny_text)(policy, 0, size)
    _widen(policy)
    _write_rows(folder, steps * problems, size, pictures)
    (folder / "even.py").write_text(REWARD, encoding="utf-8")
    fields: dict[str, Any] = {
        "name": "pictures" if pictures else "text",
        "steps": steps,
        "problems_per_step": problems,
        "data": {
            "source": str(folder / "rows.jsonl"),
            "image_column": "image" if pictures else None,
        },
        "policy": {"path": str(policy), "dtype": "float32"},
        "prompt": {"max_tokens": 512},
        "rollout": {"group_size": 8, "max_new_tokens": tokens, "enforce_eager": True},
        "reward": {
            "weights": {"even": 1.0},
            "accuracy": "even",
            "custom": {"even": f"{folder}/even.py:even"},
        },
        "learner": {
            "zero_stage": 0,
            "gradient_checkpointing": False,
            "max_tokens_per_microbatch": 2048,
            "optimizer": {"lr": 1e-5, "weight_decay": 0.0, "warmup_ratio": 0.0},
        },
        "checkpoint": {"every": 10**6},
        "log": {"folder": str(folder), "wandb": False},
    }
    return GRPORecipe.model_validate(fields)


def _widen(policy: Path) -> None:
    """Give the model more tokens than its tokenizer has, as large models do."""
    model = load_model(ModelConfig(path=str(policy), dtype="float32"), policy)
    torch.manual_seed(0)
    model.resize_token_embeddings(VOCABULARY, mean_resizing=False)
    model.save_pretrained(policy)


def _write_rows(folder: Path, count: int, size: TinySize, pictures: bool) -> None:
    rng = np.random.default_rng(0)
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as out:
        for number in range(count):
            words = rng.integers(0, 10, 8 if pictures else 135)
            row = {"question": " ".join(map(str, words)), "answer": "0"}
            if pictures:
                noise = rng.integers(0, 256, (size.image, size.image, 3), np.uint8)
                Image.fromarray(noise).save(folder / f"{number}.png")
                row["image"] = f"{number}.png"
            out.write(json.dumps(row) + "\n")
