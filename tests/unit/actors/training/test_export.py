"""Exporting is a collective that rank 0 takes part in to its end, whatever fails there."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from actors.training.deepspeed_engine import DeepSpeedEngine
from actors.training.export import _made
from models.policy.checkpoint_weights import CheckpointWeight, SavedWeights

NAMES = ("first", "second", "third")


class Gathering:
    """An engine that counts what it gathers."""

    def __init__(self) -> None:
        self.gathers = 0

    @contextmanager
    def gathered(self, parameters: Sequence[Tensor]) -> Iterator[None]:
        self.gathers += len(parameters)
        yield


def groups(failing: str) -> list[SavedWeights]:
    def make(own: dict[str, Tensor]) -> dict[str, Tensor]:
        if failing in own:
            raise MemoryError("no room for a copy")
        return own

    weight = CheckpointWeight(torch.nn.Parameter(torch.ones(2)))
    return [SavedWeights({name: weight}, {name: torch.empty(2)}, make) for name in NAMES]


@pytest.mark.parametrize(("failing", "there"), [("none", NAMES), ("second", ("first",))])
def test_all_is_gathered_though_rank_0_cannot_copy_one(
    failing: str, there: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    engine, found = Gathering(), list[str]()
    made: Any = _made(cast("DeepSpeedEngine", engine), groups(failing))
    try:
        for tensors in made:
            found += tensors
    except MemoryError:
        assert failing == "second"
    assert (engine.gathers, tuple(found)) == (3, there)
