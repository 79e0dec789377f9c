"""Learner processes for all jobs of a file here, and the steps that they are compared with."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ray.actors.training.hosts import Hosts
from tests.ray.actors.training.learner_steps import PlainTorch, plain_steps


@pytest.fixture(scope="module")
def hosts(cluster: None) -> Iterator[Hosts]:
    made = Hosts()
    yield made
    made.close()


@pytest.fixture(scope="module")
def plain(vlm_folder: Path) -> PlainTorch:
    return plain_steps(vlm_folder)
