"""Group-relative advantages: how much better each answer did than its siblings.

Axes: P problems, G answers each. The reward of an answer without a score is NaN; it is left out of
its group's statistics.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rl.data.records import ScoredGroup

_EPS = 1e-6


@dataclass(frozen=True, slots=True)
class Advantages:
    """Advantages of a step, and which answers the policy can learn from."""

    values_PG: Tensor
    """float32 [P, G]; 0 where `useful_PG` is False."""
    useful_PG: Tensor
    """bool [P, G]: the answer was scored, and its group's rewards differ."""


def group_advantages(rewards_PG: Tensor, method: Literal["group_norm", "group_mean"]) -> Advantages:
    """A[p, g] = r[p, g] - mean_g r; group_norm also divides by (std_g r + 1e-6).

    Flat groups are found on the rewards, since the float32 mean of equal rewards can be off by one
    unit in the last place, which a division by a std of 0 would blow up.

    Args:
        rewards_PG: float [P, G], G >= 2; NaN marks an answer without a score.
        method: group_norm (GRPO, arXiv:2402.03300, sec. 4.1.2, with the population std) or
            group_mean (Dr. GRPO, arXiv:2503.20783).

    Returns:
        The advantages; groups with fewer than two scores, or with equal ones, are not useful.

    Raises:
        ValueError: not [P, G] with G >= 2, or an infinite reward.
    """
    if rewards_PG.ndim != 2 or rewards_PG.shape[1] < 2:
        raise ValueError(f"rewards are {tuple(rewards_PG.shape)}, not [P, G] with G >= 2")
    rewards_PG = rewards_PG.double()
    if rewards_PG.isinf().any():
        p, g = rewards_PG.isinf().nonzero()[0].tolist()
        raise ValueError(
            f"reward of answer {g} to problem {p} is infinite; a reward must be finite: "
            "its parts stand in samples.jsonl"
        )
    scored_PG = ~rewards_PG.isnan()
    lowest_P = rewards_PG.nan_to_num(nan=float("inf")).amin(dim=1)
    highest_P = rewards_PG.nan_to_num(nan=float("-inf")).amax(dim=1)
    useful_PG = scored_PG & (highest_P > lowest_P)[:, None]

    centred_PG = rewards_PG - rewards_PG.nanmean(dim=1, keepdim=True)
    if method == "group_norm":
        spread_P1 = centred_PG.square().nanmean(dim=1, keepdim=True).sqrt()
        centred_PG = centred_PG / (spread_P1 + _EPS)
    values_PG = torch.where(useful_PG, centred_PG, torch.zeros_like(centred_PG))
    return Advantages(values_PG.float(), useful_PG)


def rewards_of(groups: Sequence[ScoredGroup]) -> Tensor:
    """float64 [P, G] rewards of a step; NaN where an answer has none."""
    return torch.tensor(
        [[float("nan") if s.reward is None else s.reward for s in g.scores] for g in groups],
        dtype=torch.float64,
    )
