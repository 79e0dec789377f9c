"""Logprobs of given tokens, without a [tokens, vocabulary] tensor of a whole batch."""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from configs.schema.rollout import DistributionConfig
from models.policy.truncation import kept_tokens


@dataclass(frozen=True, slots=True)
class OutputLayer:
    """A language model's output layer as the sampler uses it, `chunk` positions at a time."""

    head: nn.Module
    """[*, H] -> [*, V] logits."""
    banned: Tensor
    """int64 [B], ids that the sampler may never draw; their probability is 0 here too."""
    distribution: DistributionConfig
    """What the sampler draws from."""
    chunk: int
    """Positions at a time."""

    def logprobs(
        self, hidden_NH: Tensor, targets_N: Tensor, others_NK: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """log softmax(head(h) / temperature)[target], over the tokens that the sampler draws from.

        Where those are few, the policy's own decide, and the target counts as one of them: it was
        drawn, if by an earlier policy or one that rounds otherwise.
        Logits are made again in the backward pass, so at most [chunk, vocabulary] of them exist.
        Where there are several ranks this is a collective: those that shard the head's weight meet
        each time it is called, so all call it as often as the one with the most positions.

        Args:
            hidden_NH: any float [N, H], hidden states that predict the targets.
            targets_N: int64 [N].
            others_NK: int64 [N, K], further tokens to give the logprobs of; None: K = 0.

        Returns:
            float32 [N] logprobs in nats, float32 [N] entropies in nats, without gradient, and
            float32 [N, K] logprobs of the others.
        """
        if others_NK is None:
            others_NK = targets_N.new_empty((len(targets_N), 0))
        made: list[tuple[Tensor, Tensor, Tensor]] = []
        calls = -(-len(targets_N) // self.chunk)
        for call in range(_most_of_all_ranks(calls, targets_N.device)):
            part = slice(call * self.chunk, (call + 1) * self.chunk)  # empty where others have more
            args = (hidden_NH[part], targets_N[part], others_NK[part])
            if torch.is_grad_enabled():
                made.append(checkpoint(self._read, *args, use_reentrant=False))
            else:
                made.append(self._read(*args))
        chosen, entropies, others = zip(*made, strict=True)
        return torch.cat(chosen), torch.cat(entropies), torch.cat(others)

    @torch.no_grad()
    def likeliest(
        self, hidden_NH: Tensor, targets_N: Tensor, count: int, vocabulary: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The `count` likeliest of the first `vocabulary` tokens, or all, at each position.

        Returns:
            float32 [N] logprobs of the targets in nats, int64 [N, K] tokens, float32 [N, K] nats.
        """
        made: list[tuple[Tensor, Tensor, Tensor]] = []
        for begin in range(0, len(targets_N), self.chunk):
            part = slice(begin, begin + self.chunk)
            logprobs_NV = self._log_softmax(hidden_NH[part], targets_N[part])
            chosen_N = logprobs_NV.gather(1, targets_N[part, None])[:, 0]
            known_NV = logprobs_NV[:, :vocabulary]
            top = known_NV.topk(min(count, known_NV.shape[1]), dim=1)
            made.append((chosen_N, top.indices, top.values))
        chosen, ids, values = zip(*made, strict=True)
        return torch.cat(chosen), torch.cat(ids), torch.cat(values)

    def _read(
        self, hidden_NH: Tensor, targets_N: Tensor, others_NK: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        logprobs_NV = self._log_softmax(hidden_NH, targets_N)
        with torch.no_grad():
            # p log p -> 0 where p = 0, which a banned token's -inf would turn into NaN.
            entropy_N = -(logprobs_NV.exp() * logprobs_NV.clamp_min(-1e4)).sum(-1)
        # One gather: of two, one that no loss reads would keep [chunk, vocabulary] of each chunk.
        picked = logprobs_NV.gather(1, torch.cat([targets_N[:, None], others_NK], 1))
        return picked[:, 0], entropy_N, picked[:, 1:]

    def _log_softmax(self, hidden_NH: Tensor, targets_N: Tensor) -> Tensor:
        """float32 [N, V] nats."""
        logits_NV = self.head(hidden_NH).float() / self.distribution.temperature
        if self.banned.numel():
            logits_NV = logits_NV.index_fill(1, self.banned, float("-inf"))
        logprobs_NV = torch.log_softmax(logits_NV, dim=-1)
        if not self.distribution.is_cut:
            return logprobs_NV
        kept_NV = kept_tokens(logprobs_NV, self.distribution).scatter(1, targets_N[:, None], True)
        return torch.log_softmax(logits_NV.masked_fill(~kept_NV, float("-inf")), dim=-1)


def _most_of_all_ranks(count: int, device: torch.device) -> int:
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return count
    most = torch.tensor(count, device=device)
    dist.all_reduce(most, op=dist.ReduceOp.MAX)
    return int(most)
