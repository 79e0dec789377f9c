"""Weights & Biases gets the figures where it can, and never stands in a run's way."""

import json
import socket
import time
from pathlib import Path

import pytest

from rl.run_log import wandb_tracker as tracking
from rl.run_log.wandb_tracker import RUN_ID, Tracker, has_key
from tests.run_folders import Told, logged_group, write_run
from tests.waiting import wait_until


@pytest.fixture(autouse=True)
def no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def test_without_a_key_the_figures_stay_in_the_run_folder(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, "trial", {"steps": 3})
    tracker.write(0, {"reward": 0.5})
    tracker.close()
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    # wandb's own process writes it, and may do so a moment after the run is finished.
    wait_until(lambda: b"reward" in file.read_bytes(), 60.0, file.read_bytes)


def test_samples_go_along_as_a_table_with_their_images(tmp_path: Path) -> None:
    right = Told(("1+1", "=2"), detail="2 = 2")
    groups = [logged_group(0, "p1", [right, right]), logged_group(0, "p2", [right])]
    write_run(tmp_path / "run", [groups], log={"wandb": True, "wandb_samples": 2})
    (path,) = tmp_path.glob("run/wandb/offline-run-*/files/media/table/samples_*.table.json")
    table = json.loads(path.read_text("utf-8"))
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [row["name"] for row in rows] == ["p1", "p1"]
    assert (rows[0]["said"], rows[0]["reward"]) == ("1+1=2", 1.0)
    assert rows[0]["verdicts"] == "math 1.0, correct: 2 = 2"
    (kept,) = (tmp_path / "run" / "images").iterdir()
    staged = (tmp_path / "run" / "wandb" / "artifacts" / "staging").iterdir()
    assert kept.read_bytes() in [path.read_bytes() for path in staged]


KEY = b"5" * 40


def test_a_run_that_goes_on_is_the_same_run_there_and_its_key_stays_out_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", KEY.decode())
    for step in range(2):
        tracker = Tracker(tmp_path, "trial", {"steps": 3})
        tracker.write(step, {"reward": 0.5})
        tracker.close()
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY in path.read_bytes()]
    files = [file.name for file in tmp_path.glob("wandb/offline-run-*/*.wandb")]
    made = (tmp_path / RUN_ID).read_text("utf-8").strip()
    assert files == [f"run-{made}.wandb"] * len(files) and files
    (tmp_path / "other").mkdir()
    other = Tracker(tmp_path / "other", "trial", {"steps": 3})
    other.close()
    assert (tmp_path / "other" / RUN_ID).read_text("utf-8").strip() != made


def test_a_server_that_never_answers_costs_no_step_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        monkeypatch.setattr(tracking, "START_WAIT_S", 2)
        monkeypatch.setattr(tracking, "CLOSE_WAIT_S", 5)
        started = time.monotonic()
        tracker = Tracker(tmp_path, "trial", {})
        for step in range(100):
            tracker.write(step, {"reward": 0.5})
        assert time.monotonic() - started < 1.0
        tracker.close()
        assert time.monotonic() - started < 30.0


def test_a_key_is_found_in_the_environment_or_for_the_servers_host_in_netrc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not has_key("https://api.example.org")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine api.example.org login user password secret\n")
    netrc.chmod(0o600)
    assert has_key("https://api.example.org")
    assert not has_key("https://other.example.org")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert has_key("https://other.example.org")
