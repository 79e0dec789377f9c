"""By which seeds problems are asked, and in which order they are begun."""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Sequence
from statistics import fmean

from rl.data.records import Group, Problem, SamplingRequest


class LongestFirst:
    """Begins those first that will take longest.

    Engines write as many answers at a time as fit. What is begun last ends last, so the longest
    should not be among it. Each request has a seed of its own, so the order changes no answer.
    """

    def __init__(self) -> None:
        self._lengths: dict[int, float] = {}
        """Mean tokens of the answers to each problem when it was asked last."""

    def note(self, group: Group) -> None:
        """Remember how long these answers were."""
        lengths = [len(answer.token_ids) for answer in group.answers]
        self._lengths[_key(group.problem)] = fmean(lengths)

    def places(self, problems: Sequence[Problem]) -> list[int]:
        """Places of the problems in the order in which to begin them: by the length that their
        answers had the last time, and the mean of all problems where there was none."""
        known = self._lengths
        usual = fmean(known.values()) if known else 0.0
        return sorted(range(len(problems)), key=lambda i: -known.get(_key(problems[i]), usual))


def _key(problem: Problem) -> int:
    """Training and held-out problems may bear the same ids. Of all problems that were ever asked a
    number is kept, and no image."""
    return hash((problem.id, problem.question, problem.context, problem.images))


def requests_told_apart(
    problems: Sequence[Problem], request: SamplingRequest
) -> list[SamplingRequest]:
    """`request` for each, with another seed where a problem comes again.

    A step that spans an epoch's end can have one twice: by one seed its groups would be equal.
    """
    times: Counter[str] = Counter()
    requests: list[SamplingRequest] = []
    for problem in problems:
        again = times[problem.id]
        own = dataclasses.replace(request, seed=request.seed + (again << 40)) if again else request
        requests.append(own)
        times[problem.id] += 1
    return requests


def problem_seed(seed: int, problem_id: str) -> int:
    digest = hashlib.blake2b(f"{seed}:{problem_id}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> 1
