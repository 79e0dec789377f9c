"""What a run loses, one after the other, on a cluster of four nodes.

    python -m tests.e2e.survival.losses FOLDER RUN SAVED WORDS

The raylet of the node with the rollout worker is killed; the node with learner rank 0 falls silent
behind the checkpoint of step SAVED; the driver is killed, and the command is given again. FOLDER
gets what each command said, and `found.json`, what was seen on the way.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from rl.storage.checkpoints import STATE
from rl.storage.jsonl import read_lines
from tests.e2e.command import OUTLIVED_S, PATIENCE_S
from tests.e2e.survival.nodes import Nodes, cluster_of_nodes, titled
from tests.waiting import wait_until

_ACTORS = ("ray::LearnerRank", "ray::RolloutWorker", "ray::RewardWorker", "VLLM::")
_MARK = "R1V_CACHE"
"""A variable that tells this run's processes from others on the machine."""


class Run:
    """The run, and how far it says that it has come."""

    def __init__(self, nodes: Nodes, words: list[str]) -> None:
        self._nodes = nodes
        self._words = [sys.executable, "-m", "tests.e2e.survival.placed", *words]
        self._log = nodes.folder / "before.log"
        self.driver = self.submit("before")

    def submit(self, log: str) -> "subprocess.Popen[bytes]":
        """Give the command."""
        return self._nodes.on_head(self._words, log)

    def wait_for_step(self, step: int, times: int = 1) -> None:
        """Wait until the run has told of a step so often."""

        def told() -> bool:
            said = self._log.read_text(errors="replace")
            assert self.driver.poll() is None, said
            return len(re.findall(rf"^step +{step}/\d+ +reward", said, re.MULTILINE)) >= times

        wait_until(told, PATIENCE_S, self._log.read_text)


def left() -> list[str]:
    """Processes of the run's actors that live."""
    found: list[str] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            own = process.environ().get(_MARK) == os.environ[_MARK]
            if own and any(titled(process, name) for name in _ACTORS):
                found.append(str(process))
    return found


def damage(checkpoints: Path, saved: int) -> None:
    """Leave two that are newer than that of step `saved`: one half written, one with a cut file."""
    (checkpoints / f".writing_step_{saved + 7:06d}").mkdir()
    cut = checkpoints / f"step_{saved + 1:06d}"
    shutil.copytree(checkpoints / f"step_{saved:06d}", cut)
    state = json.loads((cut / STATE).read_text("utf-8"))
    (cut / STATE).write_text(json.dumps(state | {"step": saved + 1}), "utf-8")
    largest = max((cut / "learner").rglob("*.pt"), key=lambda path: path.stat().st_size)
    os.truncate(largest, 4096)


def main(folder: Path, run: Path, saved: int, words: list[str]) -> None:
    """Lose one after the other."""
    found: dict[str, Any] = {"left": []}
    with cluster_of_nodes(folder, apart="APART" in os.environ) as nodes:
        nodes.start("head", "reward-0", "learner-1")
        nodes.start("learns", "learner-0")
        nodes.start("answers", "rollout-0")
        going = Run(nodes, words)
        going.wait_for_step(1)
        found["where"] = {
            actor: nodes.where(actor) for actor in ("LearnerRank", "RolloutWorker", "RewardWorker")
        }
        nodes.kill_raylet("answers")
        nodes.start("spare", "rollout-0", "learner-0")
        going.wait_for_step(saved + 1)
        nodes.unplug("learns")
        going.wait_for_step(saved + 1, times=2)
        nodes.bury("learns")
        found["where_at_last"] = {
            actor: nodes.where(actor) for actor in ("LearnerRank", "RolloutWorker")
        }
        going.driver.kill()
        going.driver.wait()
        try:
            wait_until(lambda: not left(), OUTLIVED_S)
        except AssertionError:
            found["left"] = left()
        found["before"] = list(read_lines(run / "samples.jsonl"))
        found["saved"] = [path.name for path in run.glob("checkpoints/step_*")]
        damage(run / "checkpoints", saved)
        found["status"] = going.submit("resumed").wait(PATIENCE_S)
    (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    shutil.rmtree(sys.argv[1], ignore_errors=True)
    Path(sys.argv[1]).mkdir(parents=True)
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
