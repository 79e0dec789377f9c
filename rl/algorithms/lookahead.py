"""Rollouts of each step, asked ahead of the learner, which is all that tells synchronous from
asynchronous, and asked again where a problem's answers teach nothing."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Generic, TypeVar

from configs.jobs.grpo import GRPORecipe
from rl.algorithms.first_answered import Charged, FirstAnswered
from rl.algorithms.interfaces import Pending, Problems, Rollouts
from rl.algorithms.training_rows import step_advantages
from rl.data.records import Problem, SamplingRequest, ScoredGroup
from rl.run_log.answer_metrics import right_shares

T = TypeVar("T")


class StaleRollout(RuntimeError):
    """An answer was written by a policy older than the recipe allows."""


class Lookahead(Generic[T]):
    """Takes results in the order of steps, up to `depth` steps asked beyond the one taken.

    With depth 0 a step is asked only when it is taken, so its answers come from the policy that
    they train. With depth k they come from a policy at most k versions older.
    """

    def __init__(
        self, submit: Callable[[int], Pending[T]], *, first: int, stop: int, depth: int
    ) -> None:
        """`submit(step)` begins the work of a step and returns at once."""
        self._submit = submit
        self._next = first
        self._stop = stop
        self._depth = depth
        self._taken = first
        self._pending: deque[Pending[T]] = deque()
        self.seconds = 0.0
        """What the step taken last took of the engines' time, waited for or not."""

    def next_result(self) -> T:
        """The result of the next step."""
        while self._next < min(self._stop, self._taken + self._depth + 1):
            self._pending.append(self._submit(self._next))
            self._next += 1
        self._taken += 1
        pending = self._pending.popleft()
        result = pending.result()
        self.seconds = pending.seconds
        return result


_SEED_STRIDE = 1_000_000
"""Keeps the draws of one seed's steps apart from another seed's."""
_ROUND_STRIDE = 1 << 50
"""Keeps the draws of a step's rounds apart, where a small data set gives a problem twice."""


class StepRollouts:
    """The scored groups that each step learns from."""

    def __init__(
        self, recipe: GRPORecipe, problems: Problems, rollouts: Rollouts, first: int
    ) -> None:
        """`first`: the step that comes next."""
        self._recipe = recipe
        self._problems = problems
        self._rollouts = rollouts
        self._step = first
        depth, stop = recipe.max_staleness, recipe.steps
        self._ahead = Lookahead(self._submit, first=first, stop=stop, depth=depth)
        self._first_answered: FirstAnswered | None = None
        if recipe.rollout.stragglers == "drop":
            self._first_answered = FirstAnswered(
                self._begin, size=recipe.problems_per_step, stop=stop, depth=depth
            )
        self.seconds = 0.0
        """What the step taken last took of the engines' time, waited for or not."""
        self.metrics: dict[str, float] = {}
        """Of the step taken last. With dynamic sampling: flat_share, the groups that teach nothing
        among all that were asked, extra_problems, and sampling_rounds, 1 where none were needed.
        Without waiting for stragglers: dropped_groups."""

    def next_groups(self) -> list[ScoredGroup]:
        """Those of the next step: one for each problem, and with dynamic sampling one for each
        further problem, so that as many as problems_per_step teach something.

        Raises:
            StaleRollout: an answer's policy lags more than `max_staleness` versions.
        """
        if self._first_answered is None:
            groups = self._ahead.next_result()
            self.seconds = self._ahead.seconds
        else:
            groups = self._first_answered.next_groups(self._step)
            self.seconds = self._first_answered.seconds
            self.metrics = {"dropped_groups": float(self._first_answered.dropped)}
        config = self._recipe.rollout.dynamic_sampling
        if config is not None:
            groups = self._filled_up(groups, config.max_extra)
        check_staleness(groups, oldest=self._step - self._recipe.max_staleness)
        self._problems.done(right_shares(groups, self._recipe.reward))
        self._step += 1
        return groups

    def _filled_up(self, groups: Sequence[ScoredGroup], max_extra: float) -> list[ScoredGroup]:
        wanted = self._recipe.problems_per_step
        most = wanted + round(max_extra * wanted)
        all_groups, rounds = list(groups), 1
        while True:
            # As the update does, of all groups: an advantage may go by the others', too.
            useful_PG = step_advantages(all_groups, self._recipe.loss).useful_PG
            useful = int(useful_PG.any(dim=1).sum())
            missing = min(wanted - useful, most - len(all_groups))
            if missing <= 0:
                break
            pending = self._submit(self._step, missing, rounds)
            all_groups += pending.result()
            self.seconds += pending.seconds
            rounds += 1
        self.metrics |= {
            "flat_share": (len(all_groups) - useful) / len(all_groups),
            "extra_problems": float(len(all_groups) - wanted),
            "sampling_rounds": float(rounds),
        }
        return all_groups

    def _submit(
        self, step: int, count: int | None = None, sampling_round: int = 0
    ) -> Pending[list[ScoredGroup]]:
        """Ask the next problems, and wait for nothing; `count`: None for a whole step's."""
        problems = self._problems.take(count or self._recipe.problems_per_step)
        return self._rollouts.submit(problems, self._request(step, sampling_round))

    def _begin(
        self, step: int, again: Sequence[Problem], count: int
    ) -> list[tuple[Problem, "Future[Charged]"]]:
        """Ask some problems again, and the next `count`, each by itself."""
        problems = [*again, *self._problems.take(count)]
        begun = self._rollouts.begin(problems, self._request(step))
        return list(zip(problems, begun, strict=True))

    def _request(self, step: int, sampling_round: int = 0) -> SamplingRequest:
        rollout = self._recipe.rollout
        drawn = SamplingRequest.drawn(
            rollout,
            count=rollout.group_size,
            max_new_tokens=rollout.max_new_tokens,
            seed=self._recipe.seed * _SEED_STRIDE + step + sampling_round * _ROUND_STRIDE,
        )
        return replace(drawn, experts=rollout.routing_replay)


def check_staleness(groups: Iterable[ScoredGroup], *, oldest: int) -> None:
    """Check that every answer comes from version `oldest` or later.

    Raises:
        StaleRollout: names the problem and both versions.
    """
    for scored in groups:
        for answer in scored.group.answers:
            if answer.version < oldest:
                raise StaleRollout(
                    f"an answer to problem {scored.group.problem.id!r} comes from policy version "
                    f"{answer.version}, older than version {oldest}, the oldest that max_staleness "
                    "allows; an engine missed a weight sync"
                )
