"""Advantages by name: how much better each answer did than others.

Axes: P problems, G answers each. The reward of an answer without a score is NaN; it is left out of
all statistics.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from configs.schema.loss import KLConfig
from rl.console.errors import UserError
from rl.console.user_functions import load_function
from rl.data.records import ScoredGroup
from rl.objectives.divergences import kl_divergence

_EPS = 1e-6
_ROUNDING = 1e-12
"""Advantages of equal rewards up to this, as a share of the reward where it is above 1, are 0."""


@dataclass(frozen=True, slots=True)
class Advantages:
    """Advantages of a step, and which answers the policy can learn from."""

    values_PG: Tensor
    """float32 [P, G]; 0 where `useful_PG` is False."""
    useful_PG: Tensor
    """bool [P, G]: the answer was scored, and not all of its group's advantages are 0."""


AdvantageMethod = Callable[[Tensor, Tensor], Tensor]
"""float64 [P, G] rewards, NaN where there is none, and float64 [P, G] answer tokens, to float64
[P, G] advantages; what stands where there is no reward is passed over."""


def group_mean(rewards_PG: Tensor, tokens_PG: Tensor) -> Tensor:
    """r - mean_g r: Dr. GRPO (arXiv:2503.20783)."""
    # Flat groups are found on the rewards, since the mean of equal rewards can be off by one unit
    # in the last place, which a division by a std of 0 would blow up.
    centred_PG = rewards_PG - rewards_PG.nanmean(dim=1, keepdim=True)
    return centred_PG.masked_fill(_flat(rewards_PG, dim=1) & ~rewards_PG.isnan(), 0.0)


def group_norm(rewards_PG: Tensor, tokens_PG: Tensor) -> Tensor:
    """(r - mean_g r) / (std_g r + 1e-6): GRPO (arXiv:2402.03300, sec. 4.1.2), population std."""
    centred_PG = group_mean(rewards_PG, tokens_PG)
    return centred_PG / (centred_PG.square().nanmean(dim=1, keepdim=True).sqrt() + _EPS)


def rloo(rewards_PG: Tensor, tokens_PG: Tensor) -> Tensor:
    """r - the mean of the others' r: RLOO (arXiv:2402.14740, sec. 3.2)."""
    scored_P1 = (~rewards_PG.isnan()).sum(dim=1, keepdim=True)
    return group_mean(rewards_PG, tokens_PG) * scored_P1 / (scored_P1 - 1).clamp(min=1)


def reinforce_plus_plus(rewards_PG: Tensor, tokens_PG: Tensor) -> Tensor:
    """(r - mean r) / (std r + 1e-6) over all tokens of the step: REINFORCE++ (arXiv:2501.03262)."""
    return _normalised(rewards_PG, tokens_PG).masked_fill(_flat(rewards_PG, dim=(0, 1)), 0.0)


def reinforce_plus_plus_baseline(rewards_PG: Tensor, tokens_PG: Tensor) -> Tensor:
    """r - mean_g r, normalised over all tokens of the step: REINFORCE++ with the group's mean as
    baseline (arXiv:2501.03262). Flat groups count in that and are then left out."""
    centred_PG = group_mean(rewards_PG, tokens_PG)
    return _normalised(centred_PG, tokens_PG).masked_fill(_flat(rewards_PG, dim=1), 0.0)


ADVANTAGES: dict[str, AdvantageMethod] = {
    "group_norm": group_norm,
    "group_mean": group_mean,
    "rloo": rloo,
    "reinforce_plus_plus": reinforce_plus_plus,
    "reinforce_plus_plus_baseline": reinforce_plus_plus_baseline,
}
"""By the names of loss.advantage."""


def advantage_of(name: str) -> AdvantageMethod:
    """The entry of that name, or the user's own function, whose advantages of equal rewards are 0
    where only rounding keeps them from it.

    Raises:
        UserError: there is no such function, or it gave something else.
    """
    if name in ADVANTAGES:
        return ADVANTAGES[name]
    function = load_function(name, "loss.advantage")

    def own(rewards_PG: Tensor, tokens_PG: Tensor) -> Tensor:
        values_PG = function(rewards_PG, tokens_PG)
        scored_PG = ~rewards_PG.isnan()
        if not isinstance(values_PG, Tensor) or values_PG.shape != rewards_PG.shape:
            shape = tuple(values_PG.shape) if isinstance(values_PG, Tensor) else repr(values_PG)
            raise UserError(
                f"loss.advantage {name!r} returned {shape} for rewards of {tuple(scored_PG.shape)};"
                " return a tensor with the advantage of each answer"
            )
        if not values_PG[scored_PG].isfinite().all():
            raise UserError(
                f"loss.advantage {name!r} returned {values_PG.tolist()} for rewards "
                f"{rewards_PG.tolist()}; where there is a reward the advantage must be finite"
            )
        # Means round, so that equal rewards need not come to 0 exactly.
        rounding_PG = values_PG.abs() <= _ROUNDING * rewards_PG.abs().clamp(min=1.0)
        return values_PG.masked_fill(_flat(rewards_PG, dim=1) & rounding_PG, 0.0)

    return own


def compute_advantages(
    rewards_PG: Tensor, tokens_PG: Tensor, method: AdvantageMethod
) -> Advantages:
    """The advantages of a step, and who is worth learning from.

    Args:
        rewards_PG: float [P, G], G >= 2; NaN marks an answer without a score.
        tokens_PG: int [P, G], tokens of each answer.

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
    values_PG = method(rewards_PG, tokens_PG.double()).masked_fill(~scored_PG, 0.0)
    useful_PG = scored_PG & (values_PG != 0.0).any(dim=1, keepdim=True)
    return Advantages(values_PG.float(), useful_PG)


def rewards_of(groups: Sequence[ScoredGroup], kl: KLConfig) -> Tensor:
    """float64 [P, G] rewards of a step; NaN where an answer has none.

    With kl.place=reward each is less by coef times the sum over the answer's tokens of the KL to
    the reference, as the policy that sampled had it (RLOO, arXiv:2402.14740, sec. 3).
    """
    return torch.tensor(
        [[_reward(scored, g, kl) for g in range(len(scored.scores))] for scored in groups],
        dtype=torch.float64,
    )


def tokens_of(groups: Sequence[ScoredGroup]) -> Tensor:
    """int64 [P, G]: tokens of each answer of a step."""
    return torch.tensor([[len(a.token_ids) for a in scored.group.answers] for scored in groups])


def _reward(scored: ScoredGroup, g: int, kl: KLConfig) -> float:
    reward = scored.scores[g].reward
    if reward is None:
        return float("nan")
    if not kl.in_reward:
        return reward
    assert scored.reference_logprobs is not None, "a reference reads what a reward needs"
    own, reference = scored.group.answers[g].logprobs, scored.reference_logprobs[g]
    own_N, reference_N = (torch.tensor(each, dtype=torch.float64) for each in (own, reference))
    return reward - kl.coef * kl_divergence(own_N, reference_N, kl.estimator).sum().item()


def _flat(rewards_PG: Tensor, dim: int | tuple[int, int]) -> Tensor:
    """bool, kept dimensions: fewer than two scores there, or all are equal."""
    lowest = rewards_PG.nan_to_num(nan=float("inf")).amin(dim=dim, keepdim=True)
    highest = rewards_PG.nan_to_num(nan=float("-inf")).amax(dim=dim, keepdim=True)
    return highest <= lowest


def _normalised(values_PG: Tensor, tokens_PG: Tensor) -> Tensor:
    """Values less their mean, by their population std, over the tokens of answers with a score."""
    weights_PG = tokens_PG * ~values_PG.isnan()
    total = weights_PG.sum().clamp(min=1.0)
    centred_PG = values_PG - (values_PG.nan_to_num() * weights_PG).sum() / total
    spread = ((centred_PG.nan_to_num().square() * weights_PG).sum() / total).sqrt()
    return centred_PG / (spread + _EPS)
