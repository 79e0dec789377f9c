"""The laptop's policies, built once: tests read them and change nothing in them."""

from pathlib import Path

import pytest

from models.tiny.model import build_tiny_text, build_tiny_vlm


@pytest.fixture(scope="session")
def vlm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vlm")
    build_tiny_vlm(folder, seed=3)
    return folder


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    build_tiny_text(folder, seed=3)
    return folder
