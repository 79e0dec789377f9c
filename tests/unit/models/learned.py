"""What a policy says of batches, and learns from them."""

import torch
from torch import Tensor

from models.inputs.packing import PackedBatch
from models.policy.policy import Policy


def learned(policy: Policy, batches: list[PackedBatch]) -> tuple[Tensor, Tensor]:
    """Logprobs of all answers, and the gradient of their weighted sum, of all weights."""
    policy.zero_grad()
    found: list[Tensor] = []
    for batch in batches:
        logprobs_N, *_ = policy(batch)
        assert batch.advantages is not None
        (logprobs_N * batch.advantages).sum().backward()
        found.append(logprobs_N.detach())
    gradients = [p.grad.flatten() for p in policy.parameters() if p.grad is not None]
    return torch.cat(found), torch.cat(gradients)
