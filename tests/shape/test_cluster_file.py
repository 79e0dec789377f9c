"""Cluster files are such that `ray up` takes, and find the environment in every shell."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from configs.jobs.grpo import GRPORecipe
from configs.loading.recipe import load_recipe
from tests.repository import ROOT
from tests.shape.kuberay_fields import KINDS, faults

BIN = "$HOME/r1v-ray/.venv/bin"


CLOUDS = ["cluster.yaml", "configs/cluster/gcp.yaml"]


@pytest.fixture(params=[*CLOUDS, "configs/cluster/local.yaml"])
def cluster(request: pytest.FixtureRequest) -> dict[str, Any]:
    return yaml.safe_load((ROOT / request.param).read_text())


def commands(cluster: dict[str, Any]) -> list[str]:
    return [line for name, lines in cluster.items() if name.endswith("_commands") for line in lines]


def test_ray_accepts_the_cluster_file(cluster: dict[str, Any]) -> None:
    validate_config(prepare_config(cluster))


def test_as_many_machines_as_are_named_are_brought_up() -> None:
    cluster = yaml.safe_load((ROOT / "configs" / "cluster" / "local.yaml").read_text())
    cluster["provider"]["worker_ips"] = ["192.168.1.11", "192.168.1.12", "192.168.1.13"]
    prepared = prepare_config(cluster)
    validate_config(prepared)
    assert prepared["max_workers"] == 3


@pytest.mark.parametrize("name", CLOUDS)
def test_nodes_with_gpus_come_when_they_are_asked_for_and_the_head_has_none(name: str) -> None:
    cluster = yaml.safe_load((ROOT / name).read_text())
    head, worker = (cluster["available_node_types"][kind] for kind in ("head", "worker"))
    machines = [
        config.get("InstanceType") or config["machineType"]
        for config in (head["node_config"], worker["node_config"])
    ]
    assert machines in (["m7i.8xlarge", "p5.48xlarge"], ["n2-standard-32", "a3-highgpu-8g"])
    kinds = cluster["available_node_types"].values()
    others = [kind for kind in kinds if kind is not head]
    assert {kind["min_workers"] for kind in others} == {0}
    assert sum(kind["max_workers"] for kind in others) == cluster["max_workers"]
    if cluster["provider"]["type"] == "gcp":  # whose machines Ray does not look up
        assert worker["resources"]["GPU"] == 8 and "GPU" not in head["resources"]


@pytest.mark.parametrize("name", CLOUDS)
def test_spot_nodes_are_as_the_others_and_told_apart_by_a_resource(name: str) -> None:
    cluster = yaml.safe_load((ROOT / name).read_text())
    worker, spot = (cluster["available_node_types"][kind] for kind in ("worker", "spot"))
    same = worker["node_config"]
    differs = {key for key, value in spot["node_config"].items() if same.get(key) != value}
    assert differs in ({"InstanceMarketOptions"}, {"scheduling"})
    given = [set(kind["resources"]) - {"CPU", "GPU"} for kind in (worker, spot)]
    assert given == [{"on_demand"}, {"spot"}]
    # Ray would put whoever asks for no such resource on either.
    assert spot["max_workers"] == 0


@pytest.mark.parametrize("name", CLOUDS)
def test_the_shared_folder_is_mounted_once_and_only_where_a_server_is_named(
    name: str, tmp_path: Path
) -> None:
    cluster = yaml.safe_load((ROOT / name).read_text())
    (line,) = [c for c in cluster["setup_commands"] if "/shared" in c]
    said = tmp_path / "said"
    for program, status in (("sudo", 0), ("mountpoint", 1)):
        path = tmp_path / program
        path.write_text(f'#!/bin/sh\necho {program} "$@" >> {said}\nexit {status}\n')
        path.chmod(0o755)

    def told(command: str) -> str:
        said.write_text("")
        shell = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
        subprocess.run(["bash", "-c", command], env=shell, check=True)
        return said.read_text()

    assert told(line) == ""
    named = line.replace("SERVER=;", "SERVER=10.0.0.2:/share;")
    assert "sudo mount -t nfs 10.0.0.2:/share /shared" in told(named)
    (tmp_path / "mountpoint").write_text("#!/bin/sh\nexit 0\n")
    assert told(named) == ""  # a node that is set up again


def test_clouds_differ_in_their_machines_only() -> None:
    aws, gcp = (yaml.safe_load((ROOT / name).read_text()) for name in CLOUDS)
    same = {name for name, value in aws.items() if gcp[name] == value}
    assert aws.keys() == gcp.keys()
    assert aws.keys() - same == {"provider", "available_node_types", "head_setup_commands"}


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


def kubernetes() -> dict[str, Any]:
    """What the file for Kubernetes asks for, by kind."""
    text = (ROOT / "configs" / "cluster" / "kuberay.yaml").read_text()
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


def test_kubernetes_is_asked_for_fields_that_it_has() -> None:
    asked = kubernetes()
    assert set(asked) == {"PersistentVolumeClaim", "RayCluster", "RayJob"}
    for kind, document in asked.items():
        assert faults(document, KINDS[kind], kind) == []


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("authOption", {"mode": "token"}, "RayCluster.spec.authOption is no field"),
        ("authOptions", {"mode": "on"}, "'on' is none of"),
        ("enableInTreeAutoscaling", "yes", "'yes' is no bool"),
        ("workerGroupSpecs", {}, "is no list"),
        ("headGroupSpec", {"rayStartParams": {"num-gpus": 0}}, "has values that are no text"),
    ],
)
def test_fields_that_kubernetes_does_not_have_would_be_found(
    path: str, value: Any, told: str
) -> None:
    cluster = kubernetes()["RayCluster"]
    cluster["spec"][path] = value
    assert told in "".join(faults(cluster, KINDS["RayCluster"], "RayCluster"))


def test_the_job_on_kubernetes_finds_its_cluster_its_image_and_a_token() -> None:
    asked = kubernetes()
    cluster, job = asked["RayCluster"], asked["RayJob"]["spec"]
    assert job["clusterSelector"] == {"ray.io/cluster": cluster["metadata"]["name"]}
    assert cluster["spec"]["authOptions"] == {"mode": "token"}
    assert (
        f"ray=={cluster['spec']['rayVersion']}\n"
        in (ROOT / "configs" / "install" / "gpu.txt").read_text()
    )
    docker = (ROOT / "configs" / "cluster" / "Dockerfile").read_text()
    folder = docker.partition("WORKDIR ")[2].partition("\n")[0]
    python, script, recipe, *changes = job["entrypoint"].split()
    assert (python, script) == ("python", f"{folder}/rl/grpo.py")
    assert "cluster.autoscaled=true" in changes
    load_recipe([recipe, *changes], GRPORecipe, None)
    spec = cluster["spec"]
    pods = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    for pod in (group["template"]["spec"] for group in pods):
        mounted = {
            mount["mountPath"] for each in pod["containers"] for mount in each["volumeMounts"]
        }
        assert mounted == {"/shared", "/dev/shm"}
        assert pod["securityContext"]["fsGroup"] == int(docker.partition("--uid ")[2].split()[0])


def test_the_image_leaves_out_what_git_does() -> None:
    ignored = (ROOT / "configs" / "cluster" / "Dockerfile.dockerignore").read_text().split("\n")
    for name in ("runs", "checkpoints", "wandb", "build", ".venv"):
        assert name in ignored, name
