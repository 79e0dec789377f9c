"""A rank's chats on their way to the model: planned, read, tokenised and packed ahead of need.

Every rank works the plan out for itself from the lengths of all chats, so none has to be told.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from models.inputs.encoder import InputEncoder
from models.inputs.packing import PackedBatch, Pixels, pack_chats
from rl.data.chats import ChatSet
from rl.data.microbatches import Pack, plan_packs
from rl.data.prefetch import prefetch
from rl.data.records import Chat, Pair, TokenisedChat

Window = Sequence[int]
"""Places of a step's chats in the order of the cursor."""

ReadImages = Callable[[Sequence[Chat | Pair]], Pixels]
"""Vision inputs of the chats' images, on the CPU."""


@dataclass(frozen=True, slots=True)
class StepShare:
    """What one rank has to do in one step."""

    number: int
    """The step."""
    window: Window
    """All ranks' chats."""
    packs: tuple[Pack, ...]
    """Rows of positions in `window`; a pack without rows is filler."""
    chats: dict[int, Chat | Pair]
    """By position."""
    tokenised: dict[int, tuple[TokenisedChat, ...]]
    """By position: a chat, or a pair's two."""

    @property
    def trained(self) -> int:
        """Tokens that this rank's loss sums over."""
        return sum(sum(chat.loss_mask) for own in self.tokenised.values() for chat in own)

    @property
    def tokens(self) -> int:
        """Tokens that this rank reads."""
        return sum(len(chat.ids) for own in self.tokenised.values() for chat in own)


@dataclass(frozen=True, slots=True)
class ReadyPack:
    """One forward pass."""

    share: StepShare
    positions: tuple[int, ...]
    """Positions in the share's window, row by row; empty: filler, of weight 0."""
    packed: PackedBatch
    """On the CPU."""


@dataclass(frozen=True, slots=True)
class PackPlan:
    """How steps are cut into forward passes."""

    budget: int
    """Most tokens of a pass."""
    packing: bool
    """False: each chat alone."""
    rank: int
    ranks: int


class PackedChatLoader:
    """The packs of one rank, made in threads while the model works on those before."""

    def __init__(
        self,
        chats: ChatSet,
        encoder: InputEncoder,
        plan: PackPlan,
        read_images: ReadImages | None = None,
    ) -> None:
        """`read_images`: where that is not `encoder.pixels`."""
        self._chats = chats
        self._encoder = encoder
        self._plan = plan
        self._read_images = read_images or encoder.pixels
        # One thread reads and tokenises the next step, one makes the next pack's pixels.
        # Torch's own threads stay the model's: a second team of them would make both wait long at
        # every operation.
        self._pool = ThreadPoolExecutor(2, "feed", torch.set_num_threads, (1,))

    def packs(self, steps: Iterable[tuple[int, Window]]) -> Iterator[ReadyPack]:
        """This rank's packs of each step, step by step; every rank has equally many."""
        shares = prefetch(self._pool, self._share, steps)
        packs = ((share, pack) for share in shares for pack in share.packs)
        return prefetch(self._pool, self._ready, packs)

    def rows(self, window: Window) -> list[int]:
        """The data's row numbers of the chats of `window`."""
        return [int(self._chats.index.numbers[index]) for index in window]

    def close(self) -> None:
        """End the threads; what they have begun is dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _share(self, step: tuple[int, Window]) -> StepShare:
        number, window = step
        # Planned by position: around the end of an epoch a chat may stand in a window twice.
        lengths = self._chats.lengths[list(window)]
        plan = self._plan
        dealt = plan_packs(lengths, range(len(window)), plan.budget, plan.ranks, plan.packing)
        packs = dealt[plan.rank]
        mine = [position for pack in packs for row in pack for position in row]
        chats = self._chats.chats([window[position] for position in mine])
        tokenised = map(self._encoder.encode_chats, chats)
        return StepShare(
            number,
            window,
            packs,
            dict(zip(mine, chats, strict=True)),
            dict(zip(mine, tokenised, strict=True)),
        )

    def _ready(self, planned: tuple[StepShare, Pack]) -> ReadyPack:
        share, pack = planned
        rows = [[chat for position in row for chat in share.tokenised[position]] for row in pack]
        positions = tuple(position for row in pack for position in row)
        pixels = self._read_images([share.chats[position] for position in positions])
        return ReadyPack(share, positions, pack_chats(rows, self._encoder.pad_id, pixels))
