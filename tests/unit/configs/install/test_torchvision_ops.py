"""torchvision can be imported in any process, also where its compiled operators do not load."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from configs.install import torchvision_ops
from tests.repository import ROOT

SITE_PACKAGES = sysconfig.get_path("purelib")
# What torchvision does on import, with and without operators of its own.
DESCRIBES_NMS = """
import torch
import torchvision.extension

@torch.library.register_fake("torchvision::nms")
def meta_nms(boxes, scores, iou_threshold):
    return boxes.new_empty(0, dtype=torch.long)
"""
WITHOUT_OPERATORS = "def _has_ops(): return False\n"
WITH_OPERATORS = """
import torch
library = torch.library.Library("torchvision", "DEF")
library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
def _has_ops(): return True
"""
IMPORT = "import torchvision._meta_registrations"
WATCH = "from configs.install.torchvision_ops import watch; watch(); "


def torchvision_with(extension: str, folder: Path) -> Path:
    """A torchvision in `folder` that holds no more than the import of the operators."""
    package = folder / "torchvision"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "extension.py").write_text(extension)
    (package / "_meta_registrations.py").write_text(DESCRIBES_NMS)
    return folder


def run(code: str, *paths: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `code` in a Python that no set-up has touched, with `paths` to import from."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))}
    # -S: nothing in site-packages runs at start-up, so neither does the installed copy.
    command = [sys.executable, "-S", "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_bare_process_of_this_environment_imports_torchvision(tmp_path: Path) -> None:
    code = "import torchvision.transforms.v2"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_missing_operators_are_declared_only_where_watched(tmp_path: Path) -> None:
    broken = torchvision_with(WITHOUT_OPERATORS, tmp_path)
    unwatched = run(IMPORT, broken, ROOT, SITE_PACKAGES)
    assert "operator torchvision::nms does not exist" in unwatched.stderr
    watched = run(WATCH + IMPORT, broken, ROOT, SITE_PACKAGES)
    assert watched.returncode == 0, watched.stderr


def test_operators_that_load_are_left_alone(tmp_path: Path) -> None:
    whole = torchvision_with(WITH_OPERATORS, tmp_path)
    count = "; from configs.install import torchvision_ops; assert not torchvision_ops._declared"
    done = run(WATCH + IMPORT + count, whole, ROOT, SITE_PACKAGES)
    assert done.returncode == 0, done.stderr


def test_an_installed_watch_starts_with_python_and_imports_no_torch(tmp_path: Path) -> None:
    torchvision_ops.install(tmp_path)
    code = (
        f"import site, sys; site.addsitedir({str(tmp_path)!r}); "
        "assert sys.meta_path[0].__name__ == '_Watch', sys.meta_path; "
        "assert not {'torch', 'torchvision'} & set(sys.modules)"
    )
    done = run(code)
    assert done.returncode == 0, done.stderr
    torchvision_ops.uninstall(tmp_path)
    assert not [*tmp_path.glob("*.p*")]


def test_watching_twice_leaves_one_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    torchvision_ops.watch()
    torchvision_ops.watch()
    assert sys.meta_path.count(torchvision_ops._Watch) == 1
