"""The losses, per token. Sums, never means: the caller divides by the step's global token count, so
that neither the micro-batch split nor the number of ranks changes the gradient (DAPO,
arXiv:2503.14476, sec. 3.3).

Axis: N answer tokens of a micro-batch.
"""

from typing import Literal

import torch
from torch import Tensor


def clipped_policy_loss(
    logprobs_N: Tensor, sampler_logprobs_N: Tensor, advantages_N: Tensor, low: float, high: float
) -> tuple[Tensor, Tensor]:
    """-min(rho A, clip(rho, 1 - low, 1 + high) A), with rho = exp(logprob - sampler logprob).

    The behaviour policy is the one that sampled, so one formula serves on-policy and late answers.
    PPO (arXiv:1707.06347, sec. 3), with DAPO's separate bounds.

    Args:
        logprobs_N: float32 [N] nats, with gradient.
        sampler_logprobs_N: float32 [N] nats, as the engine reported them.
        advantages_N: float32 [N].
        low: bound below 1. high: bound above 1.

    Returns:
        float32 [N] losses, and bool [N], True where the clip took the gradient away.
    """
    ratio_N = torch.exp(logprobs_N - sampler_logprobs_N)
    clipped_N = ratio_N.clamp(1.0 - low, 1.0 + high)
    free_N, bound_N = ratio_N * advantages_N, clipped_N * advantages_N
    return -torch.minimum(free_N, bound_N), bound_N.detach() < free_N.detach()


def kl_divergence(
    logprobs_N: Tensor, reference_logprobs_N: Tensor, estimator: Literal["k1", "k2", "k3"]
) -> Tensor:
    """KL(policy || reference) estimated on sampled tokens; d = logprob - reference logprob.

    k1 = d; k2 = d^2 / 2; k3 = exp(-d) - 1 + d (Schulman, "Approximating KL divergence", 2020).
    As a loss k1's gradient is that of the logprob alone, 0 in expectation; k2 and k3 pull back.

    Returns:
        float32 [N] nats.
    """
    difference_N = logprobs_N - reference_logprobs_N
    if estimator == "k1":
        return difference_N
    if estimator == "k2":
        return difference_N.square() / 2
    return torch.exp(-difference_N) - 1 + difference_N
