"""Cluster files are such that `ray up` takes, and find the environment in every shell."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.repository import ROOT

BIN = "$HOME/r1v-ray/.venv/bin"


@pytest.fixture(params=["cluster.yaml", "configs/cluster/local.yaml"])
def cluster(request: pytest.FixtureRequest) -> dict[str, Any]:
    return yaml.safe_load((ROOT / request.param).read_text())


def commands(cluster: dict[str, Any]) -> list[str]:
    return [line for name, lines in cluster.items() if name.endswith("_commands") for line in lines]


def test_ray_accepts_the_cluster_file(cluster: dict[str, Any]) -> None:
    validate_config(prepare_config(cluster))


def test_every_node_type_has_gpus_and_workers_may_fill_the_cluster() -> None:
    cluster = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    kinds = cluster["available_node_types"]
    assert {kind["node_config"]["InstanceType"] for kind in kinds.values()} == {"p5.48xlarge"}
    assert kinds["worker"]["max_workers"] == cluster["max_workers"]


def test_every_shell_command_parses(cluster: dict[str, Any]) -> None:
    for command in commands(cluster):
        subprocess.run(["bash", "-n", "-c", command], check=True)


def test_start_and_stop_find_ray_in_the_environment(cluster: dict[str, Any]) -> None:
    starts = cluster["head_start_ray_commands"] + cluster["worker_start_ray_commands"]
    assert starts
    for command in starts:
        path, ray = command.index(f'PATH="{BIN}:$PATH"'), command.index("ray st")
        assert path < ray, command


def test_a_cluster_is_reached_by_its_token_alone(cluster: dict[str, Any]) -> None:
    assert any(place.endswith(".ray/auth_token") for place in cluster["file_mounts"])
    starts = cluster["head_start_ray_commands"] + cluster["worker_start_ray_commands"]
    for command in starts:
        if "ray start" in command:
            assert "RAY_AUTH_MODE=token" in command.partition("ray start")[0]
            # Else Ray's `bash -c` reads .bashrc, and another python comes first.
            assert "unset SSH_CLIENT SSH2_CLIENT" in command.partition("ray start")[0]
    (head,) = [command for command in starts if "--head" in command]
    assert "--dashboard-host=127.0.0.1" in head


def test_a_fresh_shell_finds_the_environment_even_when_bashrc_returns_early(
    cluster: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / ".bashrc").write_text("# the distribution's\nreturn\n")
    (line,) = [c for c in cluster["setup_commands"] if ".bashrc" in c]
    shell = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    for _ in range(2):  # set up twice, as a restarted node is
        subprocess.run(["bash", "-c", line], env=shell, check=True)
    found = subprocess.run(
        ["bash", "-c", ". ~/.bashrc; echo $PATH"],
        env=shell,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert found.strip() == f"{tmp_path}/r1v-ray/.venv/bin:/usr/bin:/bin"


def test_the_slurm_script_parses_and_asks_for_a_token() -> None:
    script = ROOT / "configs" / "cluster" / "slurm.sh"
    subprocess.run(["bash", "-n", script], check=True)
    text = script.read_text()
    assert text.index("RAY_AUTH_MODE=token") < text.index("ray start")
