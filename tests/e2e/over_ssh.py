"""What a user does with configs/cluster/local.yaml, on a machine of its own: run in namespaces.

    unshare --fork --pid --mount-proc --net --kill-child python -m tests.e2e.over_ssh FOLDER WORDS

Processes, addresses and the home folder are then its own, so that `ray stop` ends nobody else's
Ray. FOLDER gets what each command said, and `left.json`, the processes that outlived `ray down`.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.repository import ROOT
from tests.waiting import wait_until

BIN = Path(sys.executable).parent
# As pyenv's and conda's lines do, in every login file.
OTHER_PYTHON = 'export PATH="{folder}/other/bin:$PATH"\n'


def main(folder: Path, words: list[str]) -> None:
    """Bring the cluster up, run the job, and take the cluster down."""
    home = _home(folder)
    _mount(folder / "ray", Path("/tmp/ray"))  # where clusters note that they are there
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    sshd = _ssh_server(folder, home)
    cluster = _cluster_file(folder, home)
    environment = {
        "HOME": str(home),
        "PATH": f"{BIN}:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "COLUMNS": "200",
    }

    def run(name: str, *command: str, **more: str) -> None:
        with (folder / f"{name}.log").open("wb") as out:
            subprocess.run(
                command,
                cwd=ROOT,
                env=environment | more,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                check=True,
                timeout=600,
            )

    run("token", "ray", "get-auth-token", "--generate")
    environment["RAY_AUTH_MODE"] = "token"
    run("up", "ray", "up", "-y", "--no-config-cache", str(cluster))
    submit = ("ray", "job", "submit", "--address", "http://127.0.0.1:8265", "--submission-id", "it")
    run("job", *submit, "--working-dir", ".", "--", "python", "rl/grpo.py", *words)
    run("logs", "ray", "job", "logs", "--address", "http://127.0.0.1:8265", "it")
    run("down", "ray", "down", "-y", str(cluster))
    sshd.terminate()
    sshd.wait(30)
    mine = psutil.Process().pid

    def left() -> list[str]:
        others = (p for p in psutil.process_iter() if p.pid not in (1, mine))
        alive = [p for p in others if p.status() != psutil.STATUS_ZOMBIE]
        return [" ".join(p.cmdline())[:200] for p in alive]

    try:
        wait_until(lambda: not left(), 60)
    finally:
        (folder / "left.json").write_text(json.dumps(left()))


def _home(folder: Path) -> Path:
    """A home whose login files put another python first, as the passwords file's home of root."""
    home = folder / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh").chmod(0o700)
    other = folder / "other" / "bin"
    other.mkdir(parents=True)
    for name in ("python", "python3"):
        (other / name).write_text("#!/bin/sh\necho \"No module named 'torch'\" >&2; exit 1\n")
        (other / name).chmod(0o755)
    for file in (".bashrc", ".bash_profile", ".profile"):
        (home / file).write_text(
            OTHER_PYTHON.format(folder=folder) + f"export R1V_CACHE={os.environ['R1V_CACHE']}\n"
        )
    entries = Path("/etc/passwd").read_text().splitlines()
    own = [f"root:x:0:0:root:{home}:/bin/bash", *(e for e in entries if not e.startswith("root:"))]
    (folder / "passwd").write_text("\n".join(own) + "\n")
    _mount(folder / "passwd", Path("/etc/passwd"))
    return home


def _mount(own: Path, place: Path) -> None:
    """Show `own` at `place`, to this script and what it starts."""
    if not own.exists():
        own.mkdir()
        place.mkdir(exist_ok=True)
    subprocess.run(["mount", "--bind", str(own), str(place)], check=True)


def _ssh_server(folder: Path, home: Path) -> "subprocess.Popen[bytes]":
    for name in ("host", "user"):
        key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / f"{name}_key")]
        subprocess.run(key, check=True)
    shutil.copy(folder / "user_key.pub", home / ".ssh" / "authorized_keys")
    settings = {
        "ListenAddress": "127.0.0.1",
        "HostKey": folder / "host_key",
        "AuthorizedKeysFile": home / ".ssh" / "authorized_keys",
        "PermitRootLogin": "prohibit-password",
        "StrictModes": "no",
        "UsePAM": "no",
        "PidFile": "none",
        "MaxSessions": 100,
    }
    (folder / "sshd_config").write_text("".join(f"{k} {v}\n" for k, v in settings.items()))
    Path("/run/sshd").mkdir(exist_ok=True)
    command = [shutil.which("sshd") or "/usr/sbin/sshd", "-D", "-e", "-f", folder / "sshd_config"]
    with (folder / "sshd.log").open("wb") as out:
        return subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)


def _cluster_file(folder: Path, home: Path) -> Path:
    """The shipped file with this machine's address and key, and the environment that is there."""
    cluster: dict[str, Any] = yaml.safe_load((ROOT / "configs/cluster/local.yaml").read_text())
    cluster["provider"] |= {"head_ip": "127.0.0.1", "worker_ips": []}
    cluster["auth"] = {"ssh_user": "root", "ssh_private_key": str(folder / "user_key")}
    install, *others = cluster["setup_commands"]
    assert install == "make -C ~/r1v-ray setup"
    cluster["setup_commands"] = [f"ln -sfn {BIN.parent} ~/r1v-ray/.venv", *others]
    path = folder / "local.yaml"
    path.write_text(yaml.safe_dump(cluster))
    return path


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
