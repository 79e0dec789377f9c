"""The loss of preference pairs: Mixed Preference Optimization. P pairs."""

import torch.nn.functional as F
from torch import Tensor

from configs.jobs.mpo import PreferenceLossConfig

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
