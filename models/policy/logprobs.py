"""Logprobs of given tokens, without a [tokens, vocabulary] tensor of a whole batch."""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def _chunk_logprobs(
    head: nn.Module, hidden_NH: Tensor, targets_N: Tensor, banned: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    logits_NV = head(hidden_NH).float() / temperature
    if banned.numel():
        logits_NV = logits_NV.index_fill(1, banned, float("-inf"))
    logprobs_NV = torch.log_softmax(logits_NV, dim=-1)
    with torch.no_grad():
        # p log p -> 0 where p = 0, which a banned token's -inf would turn into NaN.
        entropy_N = -(logprobs_NV.exp() * logprobs_NV.clamp_min(-1e4)).sum(-1)
    return logprobs_NV.gather(1, targets_N[:, None])[:, 0], entropy_N


def _most_of_all_ranks(count: int, device: torch.device) -> int:
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return count
    most = torch.tensor(count, device=device)
    dist.all_reduce(most, op=dist.ReduceOp.MAX)
    return int(most)


def token_logprobs(
    head: nn.Module,
    hidden_NH: Tensor,
    targets_N: Tensor,
    *,
    banned: Tensor,
    temperature: float,
    chunk: int,
) -> tuple[Tensor, Tensor]:
    """log softmax(head(h) / temperature)[target], `chunk` positions at a time.

    Logits are made again in the backward pass, so at most [chunk, vocabulary] of them exist. Where
    there are several ranks this is a collective: those that shard the head's weight meet each time
    it is called, so all call it as often as the one with the most positions.

    Args:
        head: the language model's output layer, [*, H] -> [*, V].
        hidden_NH: any float [N, H], hidden states that predict the targets.
        targets_N: int64 [N].
        banned: int64 [K], ids that the sampler may never draw; their probability is 0 here too.
        temperature: what the sampler divided its logits by.
        chunk: positions at a time.

    Returns:
        float32 [N] logprobs in nats, and float32 [N] entropies in nats, without gradient.
    """
    logprobs: list[Tensor] = []
    entropies: list[Tensor] = []
    for call in range(_most_of_all_ranks(-(-len(targets_N) // chunk), targets_N.device)):
        part = slice(call * chunk, (call + 1) * chunk)  # empty where others have more
        args = (head, hidden_NH[part], targets_N[part], banned, temperature)
        if torch.is_grad_enabled():
            values, entropy = checkpoint(_chunk_logprobs, *args, use_reentrant=False)
        else:
            values, entropy = _chunk_logprobs(*args)
        logprobs.append(values)
        entropies.append(entropy)
    return torch.cat(logprobs), torch.cat(entropies)
