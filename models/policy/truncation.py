"""Which tokens a truncated sampler draws from: min_p, top_k and top_p, as vLLM reads them."""

import math

import torch
from torch import Tensor

from configs.schema.rollout import DistributionConfig


@torch.no_grad()
def kept_tokens(logprobs_NV: Tensor, distribution: DistributionConfig) -> Tensor:
    """Tokens that are left to draw from, the likeliest always among them.

    First those of at least min_p times the largest probability, of these the top_k likeliest (all
    that tie with the last), of these the fewest whose renormalised probabilities exceed top_p.
    Nucleus sampling: arXiv:1904.09751, sec. 3.1; min-p: arXiv:2407.01082.

    Args:
        logprobs_NV: float32 [N, V] nats at the sampling temperature; -inf for banned tokens.

    Returns:
        bool [N, V].
    """
    left_NV = logprobs_NV
    if distribution.min_p > 0:
        least_N1 = left_NV.amax(1, keepdim=True) + math.log(distribution.min_p)
        left_NV = left_NV.masked_fill(left_NV < least_N1, -math.inf)
    if distribution.top_k is not None:
        count = min(distribution.top_k, left_NV.shape[1])
        least_N1 = left_NV.topk(count, dim=1).values[:, -1:]
        left_NV = left_NV.masked_fill(left_NV < least_N1, -math.inf)
    if distribution.top_p < 1:
        rising_NV, order_NV = left_NV.softmax(1).sort(1)
        cut_NV = rising_NV.cumsum(1) <= 1 - distribution.top_p
        cut_NV[:, -1] = False
        left_NV = left_NV.masked_fill(cut_NV.scatter(1, order_NV, cut_NV), -math.inf)
    return left_NV > -math.inf
