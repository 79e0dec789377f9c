"""A small policy that plans are made for."""

from pathlib import Path

import pytest

from models.tiny.model import build_tiny_vlm


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder: Path = tmp_path_factory.mktemp("planned") / "vlm"
    build_tiny_vlm(folder, seed=0)
    return str(folder)
