from collections.abc import Iterator

import pytest

from actors.cluster.ray_session import ray_session


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with ray_session():
        yield
