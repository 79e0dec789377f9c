"""One Ray cluster and one whole system for all tests here: starting them is what costs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.cluster.ray_session import ray_session
from models.tiny.model import build_tiny_vlm
from tests.ray.lessons import Lessons, learn_all
from tests.ray.system import System, recipe, running_system


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        with ray_session():
            yield


@pytest.fixture(scope="session")
def vlm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policies") / "vlm"
    build_tiny_vlm(folder, seed=0)
    return folder


@pytest.fixture(scope="session")
def lessons(cluster: None, vlm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Lessons:
    return learn_all(vlm_folder, tmp_path_factory.mktemp("lessons"))


@pytest.fixture(scope="session")
def shared_system(
    cluster: None, vlm_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    spare = tmp_path_factory.mktemp("system")
    with running_system(recipe(vlm_folder), vlm_folder, spare) as system:
        yield system


@pytest.fixture
def system(shared_system: System) -> System:
    """The shared system, its policy as at its start."""
    shared_system.reset()
    return shared_system
