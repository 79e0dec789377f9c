"""A cluster over ssh: `ray up`, `ray job submit`, `ray down`, by the file that is shipped."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.command import Place, lines
from tests.repository import ROOT

NAMESPACES = ("unshare", "--fork", "--pid", "--mount-proc", "--net", "--kill-child")


def _lacks() -> str | None:
    """What this machine lacks to be a cluster of its own."""
    for name in ("sshd", "rsync", "unshare", "ip"):
        if shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
            return f"no {name} here"
    if subprocess.run([*NAMESPACES, "true"], check=False, capture_output=True).returncode:
        return "no right to make namespaces"
    return None


LACKS = _lacks()
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(LACKS is not None, reason=str(LACKS)),
]


@pytest.fixture(scope="module")
def brought_up(place: Place) -> Path:
    """What the commands said and left."""
    folder = place.folder / "over_ssh"
    folder.mkdir(parents=True)
    script = [sys.executable, "-m", "tests.e2e.over_ssh", str(folder)]
    with place.log("over_ssh").open("wb") as out:
        done = subprocess.run(
            [*NAMESPACES, *script, *place.words("submitted")],
            cwd=ROOT,
            env=place.environment(),
            stdout=out,
            stderr=subprocess.STDOUT,
            check=False,
        )
    said = {path.name: path.read_text(errors="replace")[-3000:] for path in folder.glob("*.log")}
    assert done.returncode == 0, f"{place.said('over_ssh')[-3000:]}\n{said}"
    return folder


def test_a_submitted_job_finds_the_project_s_python_and_runs_to_its_end(
    brought_up: Path, place: Place
) -> None:
    assert "step 4/4" in (brought_up / "job.log").read_text()
    assert "step 4/4" in (brought_up / "logs.log").read_text()
    steps = [line["step"] for line in lines(place.run("submitted") / "metrics.jsonl")]
    assert steps == [0, 1, 2, 3]


def test_nothing_is_left_running_when_the_cluster_is_down(brought_up: Path) -> None:
    assert json.loads((brought_up / "left.json").read_text()) == []
