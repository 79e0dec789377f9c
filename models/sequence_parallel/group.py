"""Ranks that share rows, and what they exchange (DeepSpeed-Ulysses, arXiv:2309.14509).

Outside attention each rank has an equal part of a row's tokens and all heads. While it attends it
has all tokens for an equal part of the heads, so attention is what it would be on one rank.

Axes: B rows, T tokens of a row, t = T / n of them on each of n ranks, D of a head; N trained tokens
of all ranks, M of this one.
"""

import math
from datetime import timedelta
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function


class SequenceGroup:
    """The ranks that share this rank's rows."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        """`group`: they, in the order of their parts of a row."""
        self._group = group
        self.size = dist.get_world_size(group)
        self.rank = dist.get_rank(group)

    @classmethod
    def of_size(cls, size: int, timeout: timedelta) -> "SequenceGroup | None":
        """This rank's among groups of `size` ranks behind one another; None: each is alone.

        Called on every rank of an initialised process group. `timeout`: of what they exchange.
        """
        return None if size == 1 else cls(_own_subgroup(size, timeout))

    def own_part(self, tokens: int) -> slice:
        """Places of this rank's tokens in a row of `tokens`, which the ranks divide equally."""
        part, rest = divmod(tokens, self.size)
        assert rest == 0, f"rows of {tokens} tokens have been padded to a multiple of {self.size}"
        return slice(self.rank * part, (self.rank + 1) * part)

    def all_tokens(self, states: Tensor) -> Tensor:
        """From own tokens to all of them, of own heads.

        Where there are fewer heads than ranks, or the ranks do not divide them, as with keys and
        values that several queries share, each head is given to all ranks that ask for it.

        Args:
            states: any float [B, heads, t, D].

        Returns:
            [B, heads / n or more, T, D]: for an own part of the queries' heads, which the ranks
            divide equally, their keys' and values' heads in order, each for equally many.
        """
        heads = states.shape[1]
        times = math.lcm(heads, self.size) // heads
        if times > 1:
            states = states.repeat_interleave(times, dim=1)
        return self._exchanged(states)

    def own_tokens(self, attended: Tensor) -> Tensor:
        """[B, T, heads / n, D] of own heads to [B, t, heads, D] of own tokens."""
        return self._exchanged(attended)

    def _exchanged(self, states: Tensor) -> Tensor:
        """[B, X, y, D] to [B, X / n, n * y, D]: axis 1 is dealt out, axis 2 comes together."""
        dealt = states.unflatten(1, (self.size, -1)).movedim(1, 0)
        return _AllToAll.apply(dealt, self._group).movedim(0, 2).flatten(2, 3)

    def joined(self, own: Tensor, places_M: Tensor, count: int) -> Tensor:
        """What each rank knows of the N trained tokens, on all of them.

        The gradient of a value goes to the rank that it came from: each rank holds the whole loss,
        and the sum of all ranks' gradients is that of one.

        Args:
            own: float [M, ...], of this rank's.
            places_M: int64 [M], where they stand among the N.
            count: N.
        """
        return _Join.apply(own, places_M, count, self._group)


@cache
def _own_subgroup(size: int, timeout: timedelta) -> dist.ProcessGroup:
    """Made once: runs of the same workers, one after another, would each leave one behind."""
    own, _ = dist.new_subgroups(size, timeout=timeout)
    return own


class _AllToAll(Function):
    """[n, ...]: entry i goes to rank i, and comes back as entry i of what it gave."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        given = given.contiguous()
        got = torch.empty_like(given)
        dist.all_to_all_single(got, given, group=group)
        return got

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _AllToAll.apply(gradients[0], ctx.group), None


class _Join(Function):
    @staticmethod
    def forward(
        ctx: Any, own: Tensor, places_M: Tensor, count: int, group: dist.ProcessGroup
    ) -> Tensor:
        ctx.save_for_backward(places_M)
        whole = own.new_zeros(count, *own.shape[1:])
        whole[places_M] = own
        if whole.numel():
            dist.all_reduce(whole, group=group)  # nobody else has a place of ours
        return whole

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (places_M,) = ctx.saved_tensors
        return gradients[0][places_M], None, None, None
