"""The quality of chains of thought, 0 to 5, by whatever the recipe names (paper, section 2.2)."""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from itertools import islice
from typing import Any

import ray

from actors.cluster.driver_loop import DriverLoop
from actors.cluster.nodes import nodes_to_come
from actors.cluster.pool import ActorPool
from configs.schema.quality import QualityConfig, ValueHeadConfig
from configs.schema.reward import RewardConfig
from models.policy.check import read_config
from rewards.quality.chains import GradedChain, Quality
from rewards.quality.cutting import cut_scores
from rewards.quality.judge import grade_by_judge
from rewards.quality.rules import grade_by_rules
from rl.console.errors import DoesNotFit, UserError

_AHEAD = 4
"""Batches under way for each actor."""
_JUDGED_FROM = 200
"""Chains before the share of ungraded ones is judged, unless there are no more."""
_SHOWN = 3


class TooManyUngraded(UserError):
    """A larger share of the chains got no grade than the recipe allows."""


def quality_of(
    chains: Iterable[GradedChain], config: QualityConfig, reward: RewardConfig
) -> Iterator[Quality]:
    """The grade of each chain with its reason, in order.

    Chains are read as they are graded and grades come as they are there, but for
    kind=value_head with cuts=quantiles, which needs all scores before the first grade.

    Args:
        reward: kind=rules checks by its accuracy, think template and verifier processes.

    Raises:
        UserError: what the recipe names cannot be used; at once.
        NoReply: the judge is out of reach.
        TooManyUngraded: over max_ungraded_share, after 200 chains or at the end.
    """
    check_quality(config)
    return _guarded(_grades(chains, config, reward), config.max_ungraded_share)


def check_quality(config: QualityConfig) -> None:
    """Look at what the recipe names, before anything is started.

    Raises:
        UserError: there is no such reward model.
    """
    if config.value_head is not None:
        read_config(config.value_head, "quality.value_head.path")


def _grades(
    chains: Iterable[GradedChain], config: QualityConfig, reward: RewardConfig
) -> Iterator[Quality]:
    if config.judge is not None:
        return grade_by_judge(chains, config.judge)
    head = config.value_head
    if head is None:
        return grade_by_rules(chains, reward)
    scores = value_head_scores(chains, head)
    if head.cuts == "quantiles":
        return iter(cut_scores(list(scores), head.cut_points, quantiles=True))
    return (cut_scores([s], head.cut_points, quantiles=False)[0] for s in scores)


def _guarded(grades: Iterator[Quality], max_share: float) -> Iterator[Quality]:
    total, reasons = 0, Counter[str]()
    for quality in grades:
        total += 1
        if quality.grade is None:
            reasons[quality.reason] += 1
        if total >= _JUDGED_FROM:
            check_ungraded(reasons, total, max_share)
        yield quality
    check_ungraded(reasons, total, max_share)


def check_ungraded(reasons: Counter[str], total: int, max_share: float) -> None:
    """Check how many of `total` chains got no grade; `reasons`: why, with how often.

    Raises:
        TooManyUngraded: a larger share than `max_share`; with the commonest reasons.
    """
    ungraded = reasons.total()
    if ungraded > max_share * total:
        shown = "; ".join(reason for reason, _ in reasons.most_common(_SHOWN))
        raise TooManyUngraded(
            f"{ungraded:,} of {total:,} chains got no grade, over quality.max_ungraded_share="
            f"{max_share:g}; mend what is wrong, or raise it: {shown}"
        )


def value_head_scores(
    chains: Iterable[GradedChain], config: ValueHeadConfig
) -> Iterator[float | str]:
    """Each chain's score by a reward model in actors of the open Ray session, in order; or why it
    has none.

    Raises:
        DoesNotFit: more actors than the cluster has GPUs, or may get by its autoscaler.
    """
    from actors.scoring.value_head import ValueHeadScorer  # torch, which the rest does without

    gpus = int(sum(node.get("GPU", 0.0) for node in nodes_to_come()))
    if gpus and config.workers > gpus:
        raise DoesNotFit(
            f"value_head.workers={config.workers} want a GPU each, and the cluster has {gpus}; "
            "lower it"
        )
    make: Any = ray.remote(num_gpus=min(gpus, 1), num_cpus=1)(ValueHeadScorer)
    loop = DriverLoop()
    pool = ActorPool("value head", lambda _: make.remote(config), config.workers, config.restarts)
    try:
        yield from _streamed(chains, config, loop, pool)
    finally:
        for handle in pool.handles:
            ray.kill(handle)
        loop.close()


def _streamed(
    chains: Iterable[GradedChain], config: ValueHeadConfig, loop: DriverLoop, pool: ActorPool
) -> Iterator[float | str]:
    begun: deque[Future[list[float | str]]] = deque()
    waiting = iter(chains)
    while batch := list(islice(waiting, config.batch)):
        call = pool.run(lambda scorer, batch=batch: scorer.score.remote(batch))
        begun.append(loop.start(call))
        if len(begun) >= _AHEAD * config.workers:
            yield from begun.popleft().result()
    while begun:
        yield from begun.popleft().result()
