"""Problems in the object store."""

from dataclasses import replace

import pytest
import ray

from actors.cluster.object_refs import ProblemRefs
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
