"""Supervised runs from the command line: killed and resumed."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoModelForImageTextToText, AutoProcessor

from models.tiny.model import build_tiny_vlm
from tests.e2e.command import OUTLIVED_S, PATIENCE_S, ROOT, Place, kill_9, lines
from tests.ray.chats import chat_file, seen
from tests.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1800)]

CHATS, BATCH, STEPS = 78, 4, 20


@dataclass(frozen=True)
class Bench:
    """A place with a policy and chats."""

    place: Place

    def recipe(self, name: str, **changes: Any) -> Path:
        """A recipe file of a small run called `name`."""
        folder = self.place.folder
        fields: dict[str, Any] = {
            "name": name,
            "batch_size": BATCH,
            "policy": {"path": str(folder / "policy"), "dtype": "float32"},
            "prompt": {"max_tokens": 128},
            "learner": {
                "gradient_checkpointing": False,
                "max_tokens_per_microbatch": 128,
                "optimizer": {"lr": 1e-3},
            },
            "evaluation": {"data": {"source": str(chat_file(folder, 6))}, "every": 6},
            "checkpoint": {"every": 2},
            "log": {"folder": str(folder / "runs"), "wandb": False},
        }
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(fields | changes))
        return path

    def sft(self, name: str) -> Path:
        """A recipe file of a run over all chats."""
        return self.recipe(name, data={"source": str(chat_file(self.place.folder, CHATS))})

    def start(self, script: str, words: Sequence[object], log: str) -> "subprocess.Popen[bytes]":
        """`python rl/script words`, its output in a file."""
        with self.place.log(log).open("wb") as out:
            return subprocess.Popen(
                [sys.executable, f"rl/{script}", *map(str, words)],
                cwd=ROOT,
                env=self.place.environment(),
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def finish(self, script: str, words: Sequence[object], log: str) -> str:
        """What a command says that ends well."""
        process = self.start(script, words, log)
        try:
            ended = process.wait(PATIENCE_S)
        finally:
            process.kill()
        assert ended == 0, self.place.said(log)
        return self.place.said(log)


@pytest.fixture(scope="module")
def bench(place: Place) -> Bench:
    place.folder.mkdir(parents=True, exist_ok=True)
    build_tiny_vlm(place.folder / "policy", seed=0)
    return Bench(place)


@pytest.fixture(scope="module")
def resumed(bench: Bench) -> tuple[Path, str, int]:
    """A run killed behind its second checkpoint, then resumed: folder, what it said, its start.

    Workers live a second or so longer than their driver, so there must be more to do than that.
    """
    run = bench.place.run("tuned_half")
    process = bench.start("sft.py", [bench.sft("tuned_half")], "tuned_half")
    try:
        wait_until(
            lambda: (run / "checkpoints" / "step_000004").is_dir() or process.poll() is not None,
            PATIENCE_S,
            lambda: bench.place.said("tuned_half"),
        )
    finally:
        kill_9(process)
    wait_until(lambda: not bench.place.processes(), OUTLIVED_S, bench.place.processes)
    saved = max(int(path.name[5:]) for path in run.glob("checkpoints/step_*"))
    said = bench.finish("sft.py", [bench.sft("tuned_half"), "--resume"], "tuned_on")
    return run, said, saved


def test_a_run_killed_in_mid_epoch_goes_on_and_ends_with_each_row_seen_once(
    resumed: tuple[Path, str, int],
) -> None:
    run, said, saved = resumed
    assert 4 <= saved < STEPS
    assert [line["step"] for line in lines(run / "metrics.jsonl")] == list(range(STEPS))
    assert sorted(row for step in seen(run) for row in step) == list(range(CHATS))
    assert f"step {STEPS}/{STEPS}" in said and "step  1/" not in said
    assert [line["step"] for line in lines(run / "evaluations.jsonl")] == [0, 6, 12, 18, STEPS]
    summary = json.loads((run / "summary.json").read_text("utf-8"))
    assert summary["steps"] == STEPS and summary["chats"] == CHATS
    assert summary["held_out_loss_after"] < summary["held_out_loss_before"]
    assert summary["best_step"] == STEPS and summary["skipped_updates"] == 0
    assert (run / "plot.png").stat().st_size > 1000
    kept = sorted(path.name for path in run.glob("checkpoints/step_*"))
    assert kept == ["step_000018", f"step_{STEPS:06d}"]


def test_the_policy_that_a_run_leaves_loads_in_transformers(
    resumed: tuple[Path, str, int],
) -> None:
    folder = resumed[0] / "policy"
    _, faults = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
    assert not faults["missing_keys"] and not faults["unexpected_keys"]
    AutoProcessor.from_pretrained(folder)


def test_a_dry_run_of_an_alignment_shows_its_passes(bench: Bench) -> None:
    passes = [{"data": {"source": str(chat_file(bench.place.folder, CHATS))}, "lr": 1e-2}]
    said = bench.finish("align.py", [bench.recipe("aligned", passes=passes), "--dry-run"], "shown")
    assert "passes:" in said and "DeepSpeed rank, ZeRO" in said
    assert not bench.place.run("aligned").exists()
