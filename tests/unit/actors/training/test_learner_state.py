"""Where AdamW's moments lie between updates."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from actors.training.learner_state import Moments


@pytest.fixture
def engine() -> SimpleNamespace:
    """A model and its optimizer after one update, as DeepSpeed holds them."""
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return SimpleNamespace(module=model, basic_optimizer=optimizer, device=torch.device("cpu"))


def held(engine: SimpleNamespace) -> list[Tensor]:
    states = engine.basic_optimizer.state.values()
    return [state[name] for state in states for name in ("exp_avg", "exp_avg_sq")]


def moved(engine: SimpleNamespace, before: list[Tensor]) -> bool:
    after = held(engine)
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    (copied,) = {one is not other for one, other in zip(before, after, strict=True)}
    return copied


def test_moments_are_copied_once_on_each_way_however_often_they_are_asked_for(
    engine: SimpleNamespace,
) -> None:
    moments = Moments(engine)
    for ask in (moments.offload, moments.reload, moments.offload):
        there = held(engine)
        ask()
        assert moved(engine, there)
        waiting = held(engine)
        ask()
        assert not moved(engine, waiting)


@pytest.mark.parametrize("before", ["offload", "reload"])
def test_moments_that_were_read_from_disk_are_moved_wherever_they_were_before(
    engine: SimpleNamespace, before: str
) -> None:
    for then in ("offload", "reload"):
        moments = Moments(engine)
        getattr(moments, before)()
        moments.forget_place()
        there = held(engine)
        getattr(moments, then)()
        assert moved(engine, there)
