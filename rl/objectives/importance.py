"""What sampler and learner differ in, corrected by importance weights."""

import torch
from torch import Tensor

from configs.schema.loss import ImportanceConfig
from rl.objectives.policy_losses import AnswerTokens


def importance_weights(
    tokens: AnswerTokens, sampler_logprobs_N: Tensor, config: ImportanceConfig
) -> tuple[Tensor, Tensor]:
    """w = exp(old logprob - sampler logprob), or exp of the sum of that over the answer; then
    truncated, min(max(w, low), high) (TIS, Yao et al. 2025), or 0 outside [low, high] (IcePop).

    Args:
        tokens: with the learner's logprobs before the step's first update as the old ones.
        sampler_logprobs_N: float32 [N] nats, as the engine reported them.

    Returns:
        float32 [N] weights without gradient, and bool [N], True where a bound acts.
    """
    apart_N = tokens.old_logprobs - sampler_logprobs_N
    raw_N = torch.exp(apart_N if config.level == "token" else tokens.sums(apart_N))
    outside_N = (raw_N < config.low) | (raw_N > config.high)
    if config.bound == "mask":
        return raw_N.masked_fill(outside_N, 0.0), outside_N
    return raw_N.clamp(config.low, config.high), outside_N
