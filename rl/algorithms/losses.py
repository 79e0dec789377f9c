"""The losses, per token, and of preference pairs. Sums, never means: the caller divides by the
step's global count of them, so that neither the micro-batch split nor the number of ranks changes
the gradient (DAPO, arXiv:2503.14476, sec. 3.3).

Axis: N answer tokens of a micro-batch.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from configs.jobs.mpo import PreferenceLossConfig

_LEAST_LOGPROB = -1e4
_LEAST_REST = 1e-6
PREFERENCE_FIGURES = (
    "preference_loss",
    "quality_loss",
    "generation_loss",
    "accuracy",
    "margin",
    "chosen_reward",
    "rejected_reward",
)
"""What `mpo_loss` tells of each pair beside its loss."""


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


def mpo_loss(
    logprobs_P2: Tensor,
    reference_P2: Tensor,
    chosen_tokens_P: Tensor,
    delta: float,
    config: PreferenceLossConfig,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of DPO's, BCO's and the likelihood's loss of each of P pairs: Mixed
    Preference Optimization (Skywork R1V2, arXiv:2504.16656, after InternVL's, arXiv:2411.10442).

    r = beta (log pi - log pi_0) of an answer, the logprobs of its tokens summed up;
    L_pref = -log sigmoid(r_c - r_r); L_qual = -log sigmoid(r_c - delta) - log sigmoid(delta - r_r);
    L_gen = -log pi(chosen) / its tokens.

    Args:
        logprobs_P2: float32 [P, 2] nats of whole answers, chosen and rejected, with gradient.
        reference_P2: float32 [P, 2] nats under the start policy.
        chosen_tokens_P: float32 [P], tokens of each chosen answer.
        delta: moving average of r in the steps before.

    Returns:
        float32 [P] losses, and figures [P] without gradient by the names of `PREFERENCE_FIGURES`.
    """
    chosen_P, rejected_P = (config.beta * (logprobs_P2 - reference_P2)).unbind(1)
    preference_P = -F.logsigmoid(chosen_P - rejected_P)
    quality_P = -F.logsigmoid(chosen_P - delta) - F.logsigmoid(delta - rejected_P)
    generation_P = -logprobs_P2[:, 0] / chosen_tokens_P
    loss_P = (
        config.preference_weight * preference_P
        + config.quality_weight * quality_P
        + config.generation_weight * generation_P
    )
    parts = (preference_P, quality_P, generation_P)
    margin_P = chosen_P - rejected_P
    told = (*parts, (margin_P > 0).float(), margin_P, chosen_P, rejected_P)
    return loss_P, {
        name: each.detach() for name, each in zip(PREFERENCE_FIGURES, told, strict=True)
    }


def next_delta(delta: float, chosen: float, rejected: float, decay: float) -> float:
    """decay delta + (1 - decay) (chosen + rejected) / 2, with the mean r of a step's answers."""
    return decay * delta + (1.0 - decay) * (chosen + rejected) / 2
