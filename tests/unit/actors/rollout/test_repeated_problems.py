"""A problem that stands twice in a step is answered by other seeds the second time."""

from actors.rollout.requests import requests_told_apart
from rl.data.records import Problem, SamplingRequest


def test_only_a_problem_that_comes_again_gets_another_seed() -> None:
    asked = [Problem(name, "", ("1",)) for name in ("a", "b", "a", "c", "a")]
    request = SamplingRequest(8, 1.0, 64, seed=7)
    seeds = [each.seed for each in requests_told_apart(asked, request)]
    assert [seeds[i] for i in (0, 1, 3)] == [7, 7, 7]
    assert len({seeds[0], seeds[2], seeds[4]}) == 3
    assert all(each.count == 8 for each in requests_told_apart(asked, request))
