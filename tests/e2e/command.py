"""Running `rl/grpo.py` as a user does, on runs small enough for a test."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from rl.storage.jsonl import read_lines
from tests.repository import ROOT

REWARD = Path(__file__).with_name("digit_share.py")
BIN = Path(sys.executable).parent
PATIENCE_S = 900.0
OUTLIVED_S = 60.0
"""How long processes may outlive a killed driver."""
_AGENTS = {"ray::DashboardAgent", "ray::RuntimeEnvAgent"}
"""Look for their dead head for a minute before they end, and hold nothing meanwhile."""

STEPS = 4
"""Of the small run."""
SMALL = (
    "start.parts={tower_steps: 2, base_steps: 4, substitute_steps: 2, reasoner_steps: 2}",
    "start.batch_size=8",
    "start.align_steps=2",
    "start.sft_steps=4",
    f"steps={STEPS}",
    "problems_per_step=4",
    "rollout.group_size=4",
    "rollout.max_new_tokens=24",
    "data.limit=256",
    "evaluation.data.limit=32",
    "evaluation.problems=8",
    "evaluation.samples=2",
    "checkpoint.every=1",
    "log.wandb=false",
    "reward.weights={math: 0.9, format: 0.1, digits: 1.0}",
    f"reward.custom.digits={REWARD}:digit_share",
)


SUMMARY = {
    "accuracy_before",
    "accuracy_after",
    "mean_length_before",
    "mean_length_after",
    "think_share_before",
    "think_share_after",
    "steps",
    "grpo_seconds",
    "rollout_tokens_per_s",
    "max_logprob_gap",
    "syncs_verified",
}
"""Figures of a run's summary."""
SECRETS = {
    name: f"secret-of-{name.lower()}" for name in ("HF_TOKEN", "OPENAI_API_KEY", "WANDB_API_KEY")
}
"""In the environment of every command."""


@dataclass(frozen=True)
class Place:
    """Where a test's runs lie, with a cache of their own."""

    folder: Path

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def run(self, name: str) -> Path:
        """The folder of the run called `name`."""
        return self.folder / "runs" / name

    def environment(self) -> dict[str, str]:
        """This machine's environment, without a Ray cluster and with this place's cache."""
        own = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
        path = f"{BIN}{os.pathsep}{own['PATH']}"
        here = {"WANDB_MODE": "offline", "PATH": path, "R1V_CACHE": str(self.cache)}
        return own | SECRETS | here | {"COLUMNS": "200"}

    def words(self, name: str, *more: str) -> list[str]:
        """Command-line words of the small run called `name`."""
        where = (f"name={name}", f"log.folder={self.folder / 'runs'}")
        recipe = [word for word in more if word.endswith("digits_text")]
        return [*recipe, *SMALL, *where, *(word for word in more if word not in recipe)]

    def start(
        self, words: Sequence[str], log: str, script: str = "rl/grpo.py"
    ) -> "subprocess.Popen[bytes]":
        """`python script words`, its output in a file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log(log).open("wb") as out:
            return subprocess.Popen(
                [sys.executable, script, *words],
                cwd=ROOT,
                env=self.environment(),
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def finish(self, words: Sequence[str], log: str, script: str = "rl/grpo.py") -> str:
        """The output of a run that ends well."""
        process = self.start(words, log, script)
        try:
            status = process.wait(PATIENCE_S)
        finally:
            process.kill()
        assert status == 0, self.said(log)
        return self.said(log)

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def said(self, log: str) -> str:
        """What a command wrote so far."""
        return self.log(log).read_text("utf-8", errors="replace")

    def driver(self) -> psutil.Process:
        """The process that runs `rl/grpo.py` here, as a job does."""
        (found,) = (p for p in self.processes() if p.cmdline()[1:2] == ["rl/grpo.py"])
        return found

    def processes(self) -> list[psutil.Process]:
        """Living processes that carry this place's cache in their environment, but Ray's agents."""
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            try:
                own = process.environ().get("R1V_CACHE") == str(self.cache)
                dying = process.name() in _AGENTS or process.status() == psutil.STATUS_ZOMBIE
                if own and not dying:
                    found.append(process)
            except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
        return found


def kill_9(process: "subprocess.Popen[bytes]") -> None:
    """End it with no chance to say a word."""
    process.send_signal(signal.SIGKILL)
    process.wait(30)


def lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file."""
    return list(read_lines(path))


def asked(samples: Sequence[dict[str, Any]]) -> dict[int, list[str]]:
    """Problem ids of each step, in the order asked."""
    found: dict[int, list[str]] = {}
    for sample in samples:
        ids = found.setdefault(sample["step"], [])
        if sample["problem"] not in ids:
            ids.append(sample["problem"])
    return found


def answers(samples: Sequence[dict[str, Any]], step: int) -> list[str]:
    """Texts of all answers of a step, in order."""
    return [sample["answer"] for sample in samples if sample["step"] == step]


def check_finished(run: Path, syncs: int) -> None:
    """Each step told once, all figures of the summary, a picture and a last checkpoint."""
    assert [line["step"] for line in lines(run / "metrics.jsonl")] == list(range(STEPS))
    summary = json.loads((run / "summary.json").read_text("utf-8"))
    assert summary.keys() >= SUMMARY
    assert summary["steps"] == STEPS and summary["skipped_updates"] == 0
    assert summary["syncs_verified"] == syncs
    assert 0 < summary["max_logprob_gap"] < 1e-4
    assert (run / "plot.png").stat().st_size > 1000
    kept = len(lines(run / "samples.jsonl"))
    assert f'"samples": {kept},' in (run / "report" / "run.js").read_text("utf-8")
    assert [line["step"] for line in lines(run / "evaluations.jsonl")] == [0, STEPS]
    assert sorted(path.name for path in run.glob("checkpoints/*"))[-1] == f"step_{STEPS:06d}"


def leaks(place: Place, run: Path) -> list[str]:
    """Files of a run, and what commands said, that hold a secret of the environment."""
    written = [path for path in run.rglob("*") if path.is_file()]
    said = [*place.folder.glob("*.log"), *place.folder.glob("*/*.log")]
    assert written and said
    return [
        f"{name} in {path}"
        for path in (*written, *said)
        for name, secret in SECRETS.items()
        if secret.encode() in path.read_bytes()
    ]
