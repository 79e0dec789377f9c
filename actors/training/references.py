"""Logprobs of preference pairs under the start policy, computed once and kept in the run's folder.

The policy that learns is the start policy until its first step, or its checkpoint, so no second
copy of the model is held.
"""

from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from actors.training.deepspeed_engine import DeepSpeedEngine
from actors.training.objectives import indices_of, pair_logprobs
from models.inputs.chat_loader import PackedChatLoader
from rl.storage.atomic import atomic_file


def reference_logprobs(
    path: Path, engine: DeepSpeedEngine, feed: PackedChatLoader, pairs: int, at_a_time: int
) -> NDArray[np.float32]:
    """float32 [n, 2] nats of all pairs' chosen and rejected answers; called on every rank.

    Args:
        path: file that keeps them.
        engine: holds the start policy still.
        pairs: n.
        at_a_time: pairs that are planned together.
    """
    if not path.is_file():
        found_N2 = _computed(engine, feed, pairs, at_a_time)
        if dist.get_rank() == 0:
            with atomic_file(path) as aside, aside.open("wb") as file:
                np.save(file, found_N2)
    dist.barrier()
    return np.load(path)


@torch.no_grad()
def _computed(
    engine: DeepSpeedEngine, feed: PackedChatLoader, pairs: int, at_a_time: int
) -> NDArray[np.float32]:
    found_N2 = torch.zeros(pairs, 2, device=engine.device)
    tells = dist.get_rank() % engine.ranks_per_row == 0  # ranks that share rows find the same
    windows = enumerate(range(i, min(i + at_a_time, pairs)) for i in range(0, pairs, at_a_time))
    for ready in feed.packs(windows):
        batch = ready.packed.to(engine.device)
        logprobs_N, *_ = engine.forward(batch)
        if ready.positions and tells:
            found_N2[indices_of(ready)] = pair_logprobs(batch, logprobs_N)
    dist.all_reduce(found_N2)  # a pair is told by one rank, and 0 on all others
    return found_N2.cpu().numpy()
