"""The losses, per token. Sums, never means: the caller divides by the step's global token count, so
that neither the micro-batch split nor the number of ranks changes the gradient (DAPO,
arXiv:2503.14476, sec. 3.3).

Axis: N answer tokens of a micro-batch.
"""

from typing import Literal

import torch
from torch import Tensor

_LEAST_LOGPROB = -1e4
_LEAST_REST = 1e-6


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


def reverse_kl(logprobs_NK: Tensor, teacher_logprobs_NK: Tensor) -> Tensor:
    """KL(policy || teacher) over K tokens and, as one more, all the others:
    sum_k p_k (log p_k - log q_k) + p_rest (log p_rest - log q_rest).

    Exact where the K are the whole vocabulary, below the whole divergence else. The gradient is
    that of each place as it was reached; that the policy also chooses the places is left out, as
    in on-policy distillation (GKD, arXiv:2306.13649, sec. 3).

    Args:
        logprobs_NK: float32 [N, K] nats, the policy's, with gradient; -inf for banned tokens.
        teacher_logprobs_NK: float32 [N, K] nats, the teacher's.

    Returns:
        float32 [N] nats.
    """
    # A banned token has probability 0 on both sides; its -inf would make 0 times infinity.
    own_NK = logprobs_NK.clamp_min(_LEAST_LOGPROB)
    other_NK = teacher_logprobs_NK.clamp_min(_LEAST_LOGPROB)
    rest_N, other_rest_N = _rest(own_NK), _rest(other_NK)
    among_N = (own_NK.exp() * (own_NK - other_NK)).sum(-1)
    return among_N + rest_N * (rest_N.log() - other_rest_N.log())


def _rest(logprobs_NK: Tensor) -> Tensor:
    """float32 [N]: the probability that K tokens leave to the others, never quite 0."""
    return (1.0 - logprobs_NK.exp().sum(-1)).clamp_min(_LEAST_REST)
