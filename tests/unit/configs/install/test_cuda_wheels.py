"""The versions for CUDA are those that the package index gives, told without installing them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.repository import ROOT

pytestmark = pytest.mark.slow

LIMITS = ROOT / "configs" / "install" / "gpu.txt"
PLATFORM = "x86_64-manylinux_2_35"
"""Ubuntu 22.04; Debian 12 has a newer libc. Older ones lack wheels of llguidance."""
AS_SOURCE = "deepspeed"
"""The one package without wheels."""


def pins(text: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))


def _pip(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="module")
def uv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The uv that `make setup` would take: unlike pip's, its dry runs download no wheels."""
    folder = tmp_path_factory.mktemp("uv")
    setup = (ROOT / "configs" / "install" / "setup.sh").read_text("utf-8")
    (wanted,) = re.findall(r"^uv=(uv==\S+)$", setup, re.MULTILINE)
    done = _pip("install", "--quiet", "--no-deps", "--target", str(folder), wanted)
    if done.returncode:
        pytest.skip(f"the package index cannot be reached: {done.stderr.splitlines()[-1]}")
    return folder / "bin" / "uv"


def resolved(uv: Path, python: str) -> dict[str, str]:
    """Versions that fit pyproject.toml and the limits on Linux with GPUs."""
    index = os.environ.get("PIP_INDEX_URL") or _pip("config", "get", "global.index-url").stdout
    command = [str(uv), "pip", "compile", "pyproject.toml", "--extra", "gpu", "--extra", "dev"]
    command += ["-c", str(LIMITS), "--python-version", python]
    command += ["--python-platform", PLATFORM, "--no-annotate", "--no-header"]
    command += ["--only-binary", ":all:", "--no-binary", AS_SOURCE]
    command += ["--default-index", index.strip()] if index else []
    known = os.environ | {"UV_PYTHON_DOWNLOADS": "never"}
    if certificates := os.environ.get("PIP_CERT"):
        known["SSL_CERT_FILE"] = certificates
    done = subprocess.run(
        command, cwd=ROOT, env=known, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return pins(done.stdout)


@pytest.mark.parametrize("python", ["3.11", "3.12"])
def test_the_versions_for_cuda_fit_together_as_wheels_and_nothing_is_missing(
    python: str, uv: Path
) -> None:
    limits = pins(LIMITS.read_text("utf-8"))
    assert resolved(uv, python) == limits
    assert {"torch", "vllm", "deepspeed", "nvidia-nccl-cu13"} <= limits.keys()
