"""Divergences of the policy from another one, per token.

Axes: N answer tokens of a micro-batch, K tokens of a teacher.
"""

from typing import Literal

import torch
from torch import Tensor

_LEAST_LOGPROB = -1e4
_LEAST_REST = 1e-6


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
