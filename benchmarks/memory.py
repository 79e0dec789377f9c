"""Peak memory of learner and driver against pictures a step and the length of answers.

    python benchmarks/memory.py --out memory.json

Short runs of an untrained policy with pictures of 448 x 448: as a base, with four times as many
problems a step, and with answers four times as long. A picture's pixels are 2.4 MB in float32.
Were there a copy for each answer, or for each problem of a step, four times as many problems of
eight answers would take 0.46 or 0.06 GB more; micro-batches hold the learner at what one of them
takes, whatever a step has.
"""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import psutil

from benchmarks import measuring
from benchmarks.untrained import PICTURES, untrained_run
from configs.jobs.grpo import GRPORecipe
from rl.algorithms.grpo import train
from rl.algorithms.interfaces import GRPOParts, StepLog
from rl.jobs.grpo import grpo_run
from rl.run_log.samples import Logged

STEPS = 3
SIZE = replace(
    PICTURES,
    hidden=128,
    layers=2,
    heads=4,
    mlp=256,
    vision_hidden=64,
    vision_layers=2,
    vision_heads=2,
)
RUNS = {"base": (4, 32), "more_problems": (16, 32), "longer_answers": (4, 128)}
"""Problems a step and tokens an answer."""


class PeakLog:
    """The run's log, which notes the memory of driver and learner at each step's end."""

    def __init__(self, log: StepLog) -> None:
        self._log = log
        self.peaks: dict[str, float] = {}

    def write_step(
        self, step: int, metrics: Mapping[str, float], learned: Sequence[Logged]
    ) -> None:
        """The end of a step."""
        self._log.write_step(step, metrics, learned)
        driver = psutil.Process()
        (learner,) = [p for p in driver.children(recursive=True) if _learns(p)]
        self.peaks = {"driver": _peak_gb(driver.pid), "learner": _peak_gb(learner.pid)}

    def write_evaluation(self, step: int, figures: Mapping[str, float]) -> None:
        """There is none."""
        self._log.write_evaluation(step, figures)


def _learns(process: psutil.Process) -> bool:
    return any("LearnerRank" in word for word in process.cmdline())


def _peak_gb(pid: int) -> float:
    """Most memory that a process has had in RAM, GB."""
    lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    (peak,) = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    return int(peak) * 1024 / 1e9


def peaks(folder: Path, problems: int, tokens: int) -> dict[str, float]:
    """Peak GB of driver and learner in one run."""
    recipe = untrained_run(folder, SIZE, steps=STEPS, problems=problems, tokens=tokens)
    logs: list[PeakLog] = []

    def watched(recipe: GRPORecipe, parts: GRPOParts, first: int) -> None:
        logs.append(PeakLog(parts.log))
        train(recipe, replace(parts, log=logs[0]), first)

    grpo_run(recipe, watched, None)
    return logs[0].peaks


def main() -> None:
    chosen = measuring.parser(__doc__, rounds=1).parse_args()
    figures: dict[str, Any] = {}
    for name, (problems, tokens) in RUNS.items():
        with tempfile.TemporaryDirectory() as folder:
            for who, gigabytes in peaks(Path(folder), problems, tokens).items():
                figures[f"{name}_{who}_gb"] = gigabytes
    ratios = {
        f"{who}_base_over_{name}": figures[f"base_{who}_gb"] / figures[f"{name}_{who}_gb"]
        for who in ("driver", "learner")
        for name in RUNS
        if name != "base"
    }
    measuring.report(chosen.out, "Peak memory", figures=figures, ratios=ratios)


if __name__ == "__main__":
    main()
