"""A run on this machine holds its own beside other programs."""

import os

import pytest
import ray

pytestmark = [pytest.mark.ray]


@pytest.mark.usefixtures("cluster")
def test_workers_get_as_much_of_a_busy_machine_as_the_driver() -> None:
    @ray.remote(num_cpus=0)
    def niceness() -> int:
        return os.nice(0)

    assert ray.get(niceness.remote()) == os.nice(0)
