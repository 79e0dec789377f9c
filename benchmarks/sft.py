"""Supervised tokens a second on this machine: our Ray Train job, and TRL's SFTTrainer.

    python benchmarks/sft.py --out sft.json

All train the projector and the language model of the same small R1V on the same chats, pictures and
batches, in float32, with all cores. Ours runs packed and with features kept, packed, and with each
chat alone; TRL packs no chats with pictures, and runs with its default micro-batch and with the one
that suits it best here: larger ones are mostly padding, as lengths spread like those of chains. The
start and the first epoch, in which features are computed, are left out for all. All ways are run in
each of a few rounds, and figures are medians of the rounds', for machines whose speed swings.
"""

import argparse
import importlib.util
import json
import logging
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from actors.cluster.ray_session import ray_session
from configs.jobs.sft import SFTRecipe
from models.inputs.encoder import InputEncoder
from models.tiny.model import TinySize, build_tiny_vlm
from rl.jobs.ray_train import fit
from rl.jobs.sft import prepared
from rl.storage.jsonl import read_lines

# The tower takes about a quarter of the work, as InternViT-6B does beside a 32B language model.
SIZE = TinySize(
    hidden=256, layers=4, mlp=768, vision_hidden=384, vision_layers=10, vision_heads=6, context=2048
)
BUDGET = 2048
"""Tokens of a forward pass of ours."""
LONGEST = 2048
"""Tokens of the longest chat, at most."""
WORDS = ("What", "is", "the", "sum", "of", "3, 5", "digits", "I see 3, 5. 3+5=8")
WAYS: dict[str, dict[str, Any]] = {
    "packed_and_kept": {"features": {"keep": "memory"}},
    "packed": {},
    "alone": {"packing": False},
}

TRL_MICRO_BATCHES = {"trl": 2, "trl_by_default": 8}
"""Of 1, 2, 4, 8 and 32, two was the fastest on two cores."""


@dataclass(frozen=True)
class Trial:
    """What all are given."""

    folder: Path
    batch: int
    steps_per_epoch: int
    epochs: int

    @property
    def chats(self) -> int:
        return self.batch * self.steps_per_epoch

    @property
    def policy(self) -> Path:
        return self.folder / "policy"

    @property
    def rows(self) -> Path:
        return self.folder / "chats.jsonl"


def make(trial: Trial) -> None:
    """A policy, and chats whose lengths spread as those of chains do: most short, a few long."""
    build_tiny_vlm(trial.policy, 0, SIZE)
    rng = np.random.default_rng(0)
    pictures = max(1, trial.chats // 2)
    for number in range(pictures):
        noise = rng.integers(0, 256, (SIZE.image, SIZE.image, 3), np.uint8)
        Image.fromarray(noise).save(trial.folder / f"{number}.png")

    def said(words: float) -> str:
        return " ".join(rng.choice(WORDS, max(1, min(int(words), 200))))

    with trial.rows.open("w", encoding="utf-8") as out:
        for _ in range(trial.chats):
            images = [f"{rng.integers(pictures)}.png" for _ in range(rng.choice([1, 1, 1, 2]))]
            asked = "<image>" * len(images) + said(rng.lognormal(2.3, 0.6))
            row = {
                "prompt": [{"role": "user", "content": asked}],
                "completion": [{"role": "assistant", "content": said(rng.lognormal(3.2, 0.9))}],
                "images": images,
            }
            out.write(json.dumps(row) + "\n")


def recipe_of(trial: Trial, way: str, folder: Path) -> SFTRecipe:
    """How we train, one of WAYS; the run lies in `folder`."""
    changes = dict(WAYS[way])
    learner = {
        "zero_stage": 0,
        "gradient_checkpointing": False,
        "max_tokens_per_microbatch": BUDGET,
        "packing": changes.pop("packing", True),
        "optimizer": {"lr": 1e-4},
    }
    fields: dict[str, Any] = {
        "name": way,
        "batch_size": trial.batch,
        "epochs": trial.epochs,
        "data": {"source": str(trial.rows)},
        "policy": {
            "path": str(trial.policy),
            "dtype": "float32",
            "train": ["projector", "language"],
        },
        "prompt": {"max_tokens": LONGEST},
        "learner": learner,
        "checkpoint": {"every": 10**6},
        "log": {"folder": str(folder), "wandb": False},
    }
    return SFTRecipe.model_validate(fields | changes)


def ours(trial: Trial, number: int) -> dict[str, float]:
    """Seconds of a median epoch in each way, in round `number`."""
    folder = trial.folder / f"round_{number}"
    recipes = [recipe_of(trial, way, folder) for way in WAYS]
    encoder = InputEncoder(trial.policy, recipes[0].encoding, False)
    with ray_session():
        fit([prepared(recipe, encoder, "cpu", recipe.run_folder) for recipe in recipes], folder)
    return {
        f"{recipe.name}_s": epoch_seconds(
            [line["seconds"] for line in read_lines(recipe.run_folder / "metrics.jsonl")], trial
        )
        for recipe in recipes
    }


def epoch_seconds(steps: Sequence[float], trial: Trial) -> float:
    """Seconds of a median epoch, the first left out."""
    size = trial.steps_per_epoch
    epochs = [sum(steps[i : i + size]) for i in range(size, len(steps) - size + 1, size)]
    return median(epochs)


def trl(trial: Trial, micro_batch: int) -> float:
    """Seconds of a median epoch of SFTTrainer."""
    import datasets
    import torch
    from datasets import Dataset
    from transformers import AutoModelForImageTextToText, AutoProcessor, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.ends = [time.perf_counter()]

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            self.ends.append(time.perf_counter())

    model = AutoModelForImageTextToText.from_pretrained(trial.policy, dtype=torch.float32)
    model.model.vision_tower.requires_grad_(False)
    rows = list(read_lines(trial.rows))
    for row in rows:
        row["images"] = [str(trial.folder / name) for name in row["images"]]
        for message in row["prompt"]:
            message["content"] = message["content"].replace("<image>", "")
    clock = Clock()
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(trial.folder / "trl"),
            per_device_train_batch_size=micro_batch,
            gradient_accumulation_steps=trial.batch // micro_batch,
            num_train_epochs=trial.epochs,
            learning_rate=1e-4,
            max_length=None,
            bf16=False,
            use_cpu=True,
            gradient_checkpointing=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list(rows).cast_column("images", [datasets.Image()]),
        processing_class=AutoProcessor.from_pretrained(trial.policy),
        callbacks=[clock],
    )
    trainer.train()
    return epoch_seconds(np.diff(clock.ends).tolist(), trial)


def in_a_process_of_its_own(trial: Trial, micro_batch: int) -> float:
    """TRL's seconds, measured where nothing of ours has been imported or set."""
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_send_trl, args=(sending, trial, micro_batch))
    process.start()
    sending.close()
    try:
        return float(receiving.recv())
    finally:
        process.join()


def _send_trl(pipe: Any, trial: Trial, micro_batch: int) -> None:
    logging.disable(logging.WARNING)
    pipe.send(trl(trial, micro_batch))


def one_round(trial: Trial, number: int, console: Console) -> dict[str, float]:
    """Seconds of a median epoch of each way."""
    took = ours(trial, number)
    if not importlib.util.find_spec("trl"):
        return took
    for name, size in TRL_MICRO_BATCHES.items():
        with console.status(f"TRL, micro-batches of {size}"):
            took[f"{name}_s"] = in_a_process_of_its_own(trial, size)
    return took


def measured(trial: Trial, rounds: int, console: Console) -> dict[str, Any]:
    """All figures."""
    make(trial)
    packed = recipe_of(trial, "packed", trial.folder / "measured")
    encoder = InputEncoder(trial.policy, packed.encoding, False)
    chats = prepared(packed, encoder, "cpu", packed.run_folder).chats
    tokens = int(chats.lengths.sum())
    took = [one_round(trial, number, console) for number in range(rounds)]

    def times_faster(way: str, *slower: str) -> float | None:
        if slower[0] not in took[0]:
            return None
        return median(min(seconds[name] for name in slower) / seconds[way] for seconds in took)

    theirs = [f"{name}_s" for name in TRL_MICRO_BATCHES]

    return {
        "cores": len(os.sched_getaffinity(0)),
        "chats": trial.chats,
        "batch_size": trial.batch,
        "rounds": rounds,
        "tokens_per_epoch": tokens,
        "median_chat": int(np.median(chats.lengths)),
        "longest_chat": int(chats.lengths.max()),
        **{
            way.removesuffix("_s") + "_tokens_per_s": median(
                tokens / seconds[way] for seconds in took
            )
            for way in took[0]
        },
        "ratio_vs_trl": times_faster("packed_and_kept_s", *theirs),
        "ratio_vs_trl_by_default": times_faster("packed_and_kept_s", "trl_by_default_s"),
        "ratio_vs_trl_without_kept_features": times_faster("packed_s", *theirs),
        "packing_gain": times_faster("packed_s", "alone_s"),
        "feature_cache_gain": times_faster("packed_and_kept_s", "packed_s"),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--out", type=Path, required=True, help="JSON file to write")
    options.add_argument("--batch", type=int, default=32, help="chats of a step, a multiple of 8")
    options.add_argument("--steps", type=int, default=4, help="steps of an epoch")
    options.add_argument("--epochs", type=int, default=3, help="the first is not counted")
    options.add_argument("--rounds", type=int, default=3, help="how often all of it is run")
    chosen = options.parse_args()
    if any(chosen.batch % size for size in TRL_MICRO_BATCHES.values()):
        options.error(f"--batch {chosen.batch} is no multiple of TRL's micro-batches")
    console = Console()
    if importlib.util.find_spec("trl") is None:
        console.print("trl cannot be imported, so it is left out: run make setup")
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(Path(folder), chosen.batch, chosen.steps, chosen.epochs)
        result = measured(trial, chosen.rounds, console)
    chosen.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    table = Table("", "figure", title="Supervised training on this machine")
    for name, value in result.items():
        table.add_row(name, f"{value:,.3g}" if isinstance(value, float) else str(value))
    console.print(table)


if __name__ == "__main__":
    main()
