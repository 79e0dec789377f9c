"""A run that loses something every minute: what it costs in time, memory and accuracy.

    make soak
    python benchmarks/soak.py --minutes 5 --every 30 --out soak.json

The laptop's text recipe is trained for half an hour with a fault a minute, each of another kind:
processes are killed with SIGKILL or stopped with SIGSTOP, the driver is killed and the same command
given again. Then it is trained for as many steps undisturbed. Told are each process's memory over
its life, whether each answer counted once, and the accuracy of both runs; it ends with status 1 if
anything was lost.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.soak_verdict import losses
from configs.jobs.grpo import GRPORecipe
from configs.loading.recipe import SAVED_AS, read_recipe
from rl.storage.jsonl import read_lines

ROOT = Path(__file__).resolve().parents[1]
LOOK_EVERY_S = 2.0
WARM_UP_S = 60.0
"""Of a process's life, in which its memory may grow: imports, caches, first batches."""
ENDLESS = 10**6
"""Steps."""
SAVED_EVERY = 10
"""Steps."""
SETTINGS = (
    # So that no step depends on how many there will be.
    "learner.optimizer.schedule=constant",
    "learner.optimizer.warmup_ratio=0",
    "loss.kl.coef=0.001",  # so that there is a reference policy to lose
    "rollout.health_timeout_s=20",
    "learner.timeout_s=90",
    "log.wandb=false",
    f"checkpoint.every={SAVED_EVERY}",
    f"evaluation.every={ENDLESS}",
    *(f"{role}.restarts=1000" for role in ("rollout", "reward", "reference", "learner")),
)


@dataclass
class Soaked:
    """A run, its processes, and what their memory was."""

    folder: Path
    words: Sequence[str]
    last_step: int = ENDLESS
    driver: "subprocess.Popen[bytes] | None" = None
    rss: dict[tuple[str, int], list[tuple[float, float]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """(seconds, MB) by role and process id."""

    def submit(self) -> None:
        """Give the command, or give it again."""
        how_far = f"steps={self.last_step}", "--resume-or-start"
        with self.folder.with_suffix(".log").open("ab") as out:
            self.driver = subprocess.Popen(
                [sys.executable, "rl/grpo.py", "digits_text", *self.words, *how_far],
                cwd=ROOT,
                env={key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"},
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def done(self) -> bool:
        """Whether the driver has ended; one that ended badly ends this, too."""
        assert self.driver is not None
        status = self.driver.poll()
        if status:
            raise SystemExit(f"the run ended with status {status}; see {self.folder}.log")
        return status == 0

    def processes(self) -> Iterator[tuple[str, psutil.Process]]:
        """The run's own processes with their roles."""
        assert self.driver is not None
        with suppress(psutil.Error):
            driver = psutil.Process(self.driver.pid)
            yield "driver", driver
            for each in driver.children(recursive=True):
                with suppress(psutil.Error):
                    yield _role(each), each

    def look(self) -> None:
        """Note the memory of each process."""
        for role, process in self.processes():
            with suppress(psutil.Error):
                megabytes = process.memory_info().rss / 1e6
                if megabytes:  # one that is just ending has none
                    self.rss[role, process.pid].append((time.monotonic(), megabytes))

    def steps(self) -> int:
        """Steps in the run's log now."""
        return sum(1 for _ in read_lines(self.folder / "metrics.jsonl"))


def _role(process: psutil.Process) -> str:
    title = " ".join(process.cmdline())
    named = re.match(r"ray::(\w+)", title)
    if named:
        return named[1]
    for part in ("EngineCore", "raylet", "gcs_server", "forkserver", "dashboard"):
        if part in title:
            return part
    return process.name()


def _signal(role: str, number: int) -> Callable[[Soaked], bool]:
    """A fault: the newest process of a role gets a signal; False where there is none."""

    def fault(run: Soaked) -> bool:
        found = [process for named, process in run.processes() if named == role]
        with suppress(psutil.Error, ValueError):
            max(found, key=psutil.Process.create_time).send_signal(number)
            return True
        return False

    return fault


def end_driver(run: Soaked) -> None:
    """Kill it, and wait until what it started has found out."""
    assert run.driver is not None
    own = [process for _, process in run.processes()]
    run.driver.kill()
    run.driver.wait()
    psutil.wait_procs(own, timeout=60)


def _lose_driver(run: Soaked) -> bool:
    end_driver(run)
    run.submit()
    return True


FAULTS: dict[str, Callable[[Soaked], bool]] = {
    "engine process killed": _signal("EngineCore", signal.SIGKILL),
    "reward worker killed": _signal("RewardWorker", signal.SIGKILL),
    "reward child killed": _signal("forkserver", signal.SIGKILL),
    "rollout worker killed": _signal("RolloutWorker", signal.SIGKILL),
    "reference killed": _signal("ReferencePolicy", signal.SIGKILL),
    "learner rank killed": _signal("LearnerRank", signal.SIGKILL),
    "rollout worker stopped": _signal("RolloutWorker", signal.SIGSTOP),
    "reference stopped": _signal("ReferencePolicy", signal.SIGSTOP),
    "learner rank stopped": _signal("LearnerRank", signal.SIGSTOP),
    "driver killed": _lose_driver,
}


def soak(run: Soaked, minutes: float, every_s: float) -> list[dict[str, Any]]:
    """The run from its start on, with a fault every so often for so many minutes; these.

    A fault waits until the run has come further than at the one before.
    """
    faults: list[dict[str, Any]] = []
    kinds = cycle(FAULTS)
    began = last = time.monotonic()
    lost_at = 0
    run.submit()
    while time.monotonic() - began < 60 * minutes:
        time.sleep(LOOK_EVERY_S)
        assert not run.done(), f"{ENDLESS} steps"
        run.look()
        now, steps = time.monotonic(), run.steps()
        if now - last < every_s or steps <= lost_at:
            continue
        kind = next(kinds)
        if FAULTS[kind](run):
            faults.append({"kind": kind, "at_s": round(now - began), "steps": steps})
            last, lost_at = now, steps
    return faults


def finish(run: Soaked, steps: int) -> None:
    """Let the run come to its end at so many steps."""
    run.last_step = steps
    run.submit()
    while not run.done():
        time.sleep(LOOK_EVERY_S)
        run.look()


def memory(run: Soaked) -> list[dict[str, Any]]:
    """The memory of each process that outlived its warm-up, and how it grew; of each role those
    that lived longest first."""
    lines: list[dict[str, Any]] = []
    for (role, pid), seen in run.rss.items():
        warm = np.array([each for each in seen if each[0] - seen[0][0] > WARM_UP_S])
        if len(warm) < 10:
            continue
        minutes_N = (warm[:, 0] - warm[0, 0]) / 60
        slope = float(np.polyfit(minutes_N, warm[:, 1], 1)[0])
        line = {"role": role, "pid": pid, "minutes": round(float(minutes_N[-1]), 1)}
        line |= {"first_mb": round(float(warm[0, 1])), "last_mb": round(float(warm[-1, 1]))}
        lines.append(line | {"mb_per_minute": round(slope, 2)})
    return sorted(lines, key=lambda line: (line["role"], -line["minutes"]))


def counted(run: Soaked) -> dict[str, Any]:
    """How the run ended, and how often each answer of each step was scored."""
    recipe = read_recipe(run.folder / SAVED_AS, GRPORecipe)
    summary = json.loads((run.folder / "summary.json").read_text("utf-8"))
    samples = list(read_lines(run.folder / "samples.jsonl"))
    times = Counter((each["step"], each["problem"], each["sample"]) for each in samples)
    return {
        "steps": run.steps(),
        "answers": len(times),
        "asked": run.last_step * recipe.problems_per_step * recipe.rollout.group_size,
        "answers_twice": sum(count > 1 for count in times.values()),
        "accuracy_before": summary["accuracy_before"],
        "accuracy_after": summary["accuracy_after"],
        "held_out": recipe.evaluation.problems,
    }


def show(found: dict[str, Any]) -> None:
    """Tables of what was found."""
    console = Console()
    for name, run in found.items():
        title = f"{name}: of {len(run['memory'])} processes those that lived longest"
        table = Table("process", "its id", "minutes", "first MB", "last MB", "MB a minute")
        table.title = title
        for line in {each["role"]: each for each in reversed(run["memory"])}.values():
            table.add_row(*[str(value) for value in line.values()])
        console.print(table)
        for each in run["faults"]:
            console.print(f"{each['at_s']} s, {each['steps']} steps: {each['kind']}")
        console.print({key: value for key, value in run.items() if not isinstance(value, list)})


def main() -> None:
    """Run both, and tell."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="how long faults go on")
    parser.add_argument("--every", type=float, default=60.0, help="seconds between two faults")
    parser.add_argument("--folder", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, help="file for all figures as JSON")
    parser.add_argument("overrides", nargs="*", help="of the recipe, as section.key=value")
    asked = parser.parse_args()
    own = asked.folder.resolve()
    own.mkdir(parents=True, exist_ok=True)

    def run(name: str) -> Soaked:
        folder = own / f"soak-{time.strftime('%Y%m%d-%H%M%S')}-{name}"
        return Soaked(
            folder, [*SETTINGS, f"name={folder.name}", f"log.folder={own}", *asked.overrides]
        )

    began = time.monotonic()
    soaked = run("soaked")
    faults = soak(soaked, asked.minutes, asked.every)
    end_driver(soaked)
    steps = soaked.steps() + SAVED_EVERY
    finish(soaked, steps)
    between = time.monotonic()
    undisturbed = run("undisturbed")
    finish(undisturbed, steps)
    took = {"soaked": between - began, "undisturbed": time.monotonic() - between}
    found = {
        name: {
            "seconds": round(took[name]),
            **counted(each),
            "faults": faults if each is soaked else [],
            "memory": memory(each),
        }
        for name, each in (("undisturbed", undisturbed), ("soaked", soaked))
    }
    show(found)
    if asked.out:
        asked.out.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    if lost := losses(found):
        raise SystemExit("\n".join(lost))


if __name__ == "__main__":
    main()
