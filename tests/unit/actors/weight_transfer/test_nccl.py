"""vLLM's `nccl` transport from a learner of two ranks to engines of two, but for NCCL itself."""

from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from actors.weight_transfer import rendezvous
from actors.weight_transfer.gloo import register
from actors.weight_transfer.sync import _by_group
from models.policy.weight_sums import compare_sums
from tests.played.nccl import PlayedCommunicator
from tests.unit.actors.weight_transfer.nccl_ranks import (
    WIDTH,
    Engine,
    Learner,
    engine_config,
    play_ranks,
)

pytestmark = pytest.mark.filterwarnings("ignore:Tensor .* exceeds buffer_size_bytes")

LEARNS = "layers.1.mlp"
JOINED = "model.layers.0.mlp.gate_proj.weight"
"""The learner has gate and up in one weight, which goes by the name of the first."""
SMALL = 2**13
"""Bytes of a buffer: a layer of the tiny policy fills many."""


@pytest.fixture(scope="module")
def played() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        play_ranks(patch.setattr)
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        register()
        yield


@pytest.fixture(scope="module")
def checkpoint(text: Path) -> dict[str, Tensor]:
    return load_file(text / "model.safetensors")


@pytest.fixture(scope="module")
def engines(played: None, text: Path) -> Iterator[list[Engine]]:
    config = engine_config(text)
    both = [Engine(config) for _ in range(2)]
    yield both
    for engine in both:
        engine.close()


@pytest.fixture(scope="module")
def loads(played: None, text: Path) -> Iterator[Any]:
    """What each rank of an engine holds that reads a checkpoint itself."""
    engine = Engine(engine_config(text))

    def load(checkpoint: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        for loaded in engine.in_ranks(lambda rank: rank.model.load_weights(checkpoint.items())):
            loaded.result()
        return held_by(engine)

    yield load
    engine.close()


def held_by(engine: Engine) -> list[dict[str, Tensor]]:
    return [
        {name: weight.detach().clone() for name, weight in rank.model.named_parameters()}
        for rank in engine.ranks
    ]


def moved(tensors: dict[str, Tensor], only: str = "") -> dict[str, Tensor]:
    """Weights whose names have `only` in them, changed."""
    return {n: t + torch.randn_like(t) for n, t in tensors.items() if only in n}


def gate_and_up(whole: Tensor) -> dict[str, Tensor]:
    gate, up = whole.chunk(2)
    return {JOINED: gate, JOINED.replace("gate", "up"): up}


def as_learned(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint's weights as the learner has them."""
    up = JOINED.replace("gate", "up")
    joined = {JOINED: torch.cat([tensors[JOINED], tensors[up]])}
    return {name: t for name, t in (tensors | joined).items() if name != up}


@pytest.mark.parametrize("buffer", [SMALL, 2**30])
def test_both_ranks_of_both_engines_hold_what_was_sent_and_then_what_learned(
    engines: list[Engine],
    loads: Any,
    checkpoint: dict[str, Tensor],
    buffer: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rendezvous, "BUFFER_BYTES", buffer)
    first = moved(checkpoint)
    learner = Learner(as_learned(first), LEARNS)
    learner.meet(engines, {JOINED: gate_and_up})
    later = first | moved(first, LEARNS)
    for policy in (first, later):
        learner.whole = as_learned(policy)
        sums, others = (sent.result(0) for sent in learner.send())
        assert sums == others
        for engine in engines:
            groups, held = engine.readback(list(sums))
            assert compare_sums(_by_group(sums, groups, held), held, 1e-10) == []
            for rank, expected in zip(held_by(engine), loads(policy), strict=True):
                torch.testing.assert_close(rank, expected, rtol=0, atol=0)
    for engine in engines:
        whole, partial = engine.rounds[-2:]
        assert sorted(whole) == sorted(checkpoint)
        assert sorted(partial) == sorted(name for name in checkpoint if LEARNS in name)
    learner.close()


def die_of_weights(engine: Engine, patch: pytest.MonkeyPatch) -> None:
    """One rank of the engine takes some weights, and dies of those of a layer."""

    def load(weights: Any) -> None:
        if any("layers.2" in name for name, _ in weights):
            raise RuntimeError("this engine failed")

    patch.setattr(engine.ranks[1].model, "load_weights", load)


def refuse(engine: Engine, patch: pytest.MonkeyPatch) -> None:
    """The engine takes no weights at all."""

    def start() -> None:
        raise RuntimeError("this engine failed")

    patch.setattr(engine.ranks[1].transfer, "start_weight_update", start)


def break_off(engine: Engine, patch: pytest.MonkeyPatch) -> None:
    """NCCL itself says that the engine is not there, amid the layers."""
    send, left = PlayedCommunicator.broadcast, iter(range(9))

    def broadcast(group: PlayedCommunicator, *args: Any, **named: Any) -> None:
        if group.rank == 0 and next(left, None) is None:
            raise RuntimeError("this engine failed")
        send(group, *args, **named)

    patch.setattr(PlayedCommunicator, "broadcast", broadcast)


@pytest.mark.parametrize("fail", [die_of_weights, refuse, break_off])
def test_an_engine_that_fails_leaves_no_rank_of_the_learner_waiting_and_the_next_sync_arrives(
    engines: list[Engine],
    loads: Any,
    checkpoint: dict[str, Tensor],
    monkeypatch: pytest.MonkeyPatch,
    fail: Any,
) -> None:
    """The other engine waits for the rest, as over NCCL, until its rank is freed."""
    monkeypatch.setattr(rendezvous, "BUFFER_BYTES", SMALL)
    policy = moved(checkpoint)
    learner = Learner(as_learned(policy), LEARNS)
    learner.meet(engines, {JOINED: gate_and_up})
    with monkeypatch.context() as patch:
        fail(engines[1], patch)
        sender, other = learner.send()
        with pytest.raises(RuntimeError, match="this engine failed"):
            sender.result(0)
        assert other.result(0).keys() == learner.whole.keys()
    free(engines)
    learner.meet(engines, {JOINED: gate_and_up})
    learner.send()[0].result(0)
    for engine in engines:
        for rank, expected in zip(held_by(engine), loads(policy), strict=True):
            torch.testing.assert_close(rank, expected, rtol=0, atol=0)
    learner.close()


def free(engines: list[Engine]) -> None:
    """Let ranks leave the broken group, and end the update that was begun."""
    for engine in engines:
        for rank in engine.ranks:
            rank.transfer.shutdown()
        for ended in engine.in_ranks(lambda rank: rank.transfer.finish_weight_update()):
            ended.result()


def test_ranks_of_a_second_engine_follow_those_of_the_first(
    engines: list[Engine], checkpoint: dict[str, Tensor]
) -> None:
    learner = Learner(checkpoint, LEARNS)
    learner.meet(engines, {})
    ranks = [rank.transfer.model_update_group for engine in engines for rank in engine.ranks]
    assert [group.rank for group in ranks if group] == [1, 2, 3, 4]
    assert {group.world_size for group in ranks if group} == {1 + 2 * WIDTH}
    learner.close()


def test_an_engine_that_cannot_meet_fails_the_learner_at_once(
    played: None, checkpoint: dict[str, Tensor]
) -> None:
    fault = Future[None]()
    fault.set_exception(RuntimeError("this engine failed"))
    learner = Learner(checkpoint, LEARNS)
    engine: Any = SimpleNamespace(
        init_weight_transfer_engine=SimpleNamespace(remote=lambda _: fault)
    )
    with pytest.raises(RuntimeError, match="this engine failed"):
        learner.meet([engine], {})
    learner.close()
