"""Problems in the object store."""

import json
from dataclasses import replace

import pytest
import ray

from actors.cluster.object_refs import ProblemRefs
from tests.ray.actors.cluster.store_check import IMAGE_BYTES, SHARED, STORE_BYTES
from tests.ray.processes import lines_of
from tests.ray.system import problem

pytestmark = pytest.mark.ray


def test_a_problem_is_stored_once_and_two_of_one_name_are_told_apart(cluster: None) -> None:
    refs = ProblemRefs(capacity=4)
    training = problem(1)
    held_out = replace(problem(2), id=training.id)
    assert refs.put(training) == refs.put(training)
    assert ray.get(refs.put(held_out)).images == held_out.images
    assert ray.get(refs.put(training)).images == training.images


def test_a_problem_that_fell_out_is_put_again(cluster: None) -> None:
    refs = ProblemRefs(capacity=1)
    first = refs.put(problem(1))
    refs.put(problem(2))
    again = refs.put(problem(1))
    assert again != first and ray.get(again) == problem(1)


@pytest.mark.slow
def test_images_beyond_the_stores_room_go_to_disk_and_arrive_all_the_same() -> None:
    assert SHARED * IMAGE_BYTES > 1.5 * STORE_BYTES
    *_, told = lines_of("tests.ray.actors.cluster.store_check")
    assert json.loads(told) == [IMAGE_BYTES] * SHARED
