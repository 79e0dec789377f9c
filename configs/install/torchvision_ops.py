"""Lets a CPU torch import a torchvision whose compiled operators were built for another torch.

Package indexes carry torchvision as CUDA builds only. Beside a CPU torch its compiled library does
not load, and `import torchvision` then dies while it describes two operators that library would
have declared ("operator torchvision::nms does not exist"). transformers and vLLM need only
torchvision's image transforms, which are plain Python. So the two operators are declared here,
without code behind them, at the moment when they turn out to be missing.

This must hold in every process: driver, Ray workers, vLLM's engine and the subprocess in which it
inspects models. Set-up (`python -m configs.install.torchvision_ops`) therefore copies this file
into site-packages, with a .pth line that runs `watch` whenever the environment's Python starts, and
only where `import torchvision` really fails. At start-up that costs one small import; nothing
more happens until torchvision is imported, and then only if its own operators did not load.
"""

import logging
import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.machinery import ModuleSpec
from pathlib import Path

# Modules hold a Library for as long as its declarations are to last.
_declared: list[object] = []

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_INSTALLED_NAME = "_torchvision_ops"
# transformers imports these two where it finds them, and fails with them; no job here hears sound
# or decodes video.
_UNUSED = ("torchaudio", "torchcodec")

logger = logging.getLogger(__name__)


class _Watch:
    """Finds nothing; sees the import that needs the operators, just before it needs them."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Always None, so that the ordinary finders go on."""
        # By now `torchvision.extension` has tried to load the compiled operators.
        if name == "torchvision._meta_registrations" and not _declared:
            _declare_missing()
        return None


def watch() -> None:
    """Have the missing operators declared when torchvision is first imported, here and lazily."""
    if not any(finder is _Watch for finder in sys.meta_path):
        sys.meta_path.insert(0, _Watch)


def _declare_missing() -> None:
    """Declare torchvision::nms and ::qnms unless the compiled library has done so."""
    import torch
    from torchvision.extension import _has_ops  # pyright: ignore[reportPrivateUsage]

    if _has_ops():
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS:
        library.define(schema)
    _declared.append(library)


def install(site_packages: Path) -> None:
    """Have every Python process of the environment that owns `site_packages` run `watch`."""
    shutil.copyfile(__file__, site_packages / f"{_INSTALLED_NAME}.py")
    line = f"import {_INSTALLED_NAME}; {_INSTALLED_NAME}.watch()\n"
    (site_packages / f"{_INSTALLED_NAME}.pth").write_text(line)


def uninstall(site_packages: Path) -> None:
    """Undo `install`, if it was done."""
    for suffix in (".pth", ".py"):
        (site_packages / f"{_INSTALLED_NAME}{suffix}").unlink(missing_ok=True)


def _import_error(module: str, site_packages: Path) -> str | None:
    """The last line of what a process without `watch` says on importing `module`, None if it can.

    -S keeps Python from running the .pth files, so what an earlier set-up did changes no answer.
    """
    command = [sys.executable, "-S", "-c", f"import {module}"]
    environment = os.environ | {"PYTHONPATH": str(site_packages)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return (done.stderr.strip() or "no message").splitlines()[-1] if done.returncode else None


def main() -> None:
    """Make torchvision importable in the environment of the Python that runs this.

    Raises:
        CalledProcessError: torchvision cannot be imported for a reason that is not cured here.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    site_packages = Path(sysconfig.get_path("purelib"))
    for module in _UNUSED:
        error = _import_error(module, site_packages)
        if error is not None and "No module named" not in error:
            logger.info("removing %s, which does not match torch: %s", module, error)
            subprocess.run([sys.executable, "-m", "pip", "uninstall", "-qy", module], check=True)
    error = _import_error("torchvision", site_packages)
    if error is None:
        uninstall(site_packages)
        return
    logger.info("declaring torchvision's missing operators in this environment: %s", error)
    install(site_packages)
    subprocess.run([sys.executable, "-c", "import torchvision"], check=True)


if __name__ == "__main__":
    main()
