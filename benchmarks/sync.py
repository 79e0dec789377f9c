"""Bytes a second of a weight sync over gloo: all weights, what learns alone, one weight at a time.

    python benchmarks/sync.py --out sync.json

The transport is a run's own (layers in flat buffers, summed on the way), into a process that copies
what comes into its weights as vLLM's loader does. Beside it, by turns: a plain copy in memory of as
many bytes, and the same transport asked for one weight a round, as naive trainers do. Then ZeRO 3:
two ranks that hold half of each weight of a smaller policy, gather a layer at a time and send it.
"""

import logging
import multiprocessing
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor

from actors.weight_transfer.gloo import GlooEngine, GlooInit, GlooTrainer, GlooTrainerInit
from actors.weight_transfer.policy_source import PolicySource
from benchmarks import measuring
from configs.schema.data import PromptConfig
from configs.schema.learner import LearnerConfig, OptimizerConfig
from configs.schema.policy import PolicyConfig
from models.inputs.encoder import InputEncoder
from models.policy.checkpoint_weights import CheckpointWeight
from models.policy.loading import build_policy, load_model
from models.tiny.model import TinySize, build_tiny_text

SIZE = TinySize(hidden=512, layers=8, heads=8, mlp=1536, context=1024)
WIDTH = 1024
HOST = "127.0.0.1"


class Receiver:
    """The engine's end, in a process of its own; also vLLM's client of it."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_receive, args=(theirs, dict(shapes)), daemon=True)
        self._process.start()

    def close(self) -> None:
        """End it."""
        self._process.kill()


class Client:
    """vLLM's client of a receiver, over a pipe."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        self._call("init", init_info)

    def start_weight_update(self) -> None:
        self._call("start", None)

    def update_weights(self, update_info: Any) -> None:
        self._call("update", update_info)

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        self._call("finish", None)

    def _call(self, what: str, told: Any) -> None:
        self._pipe.send((what, told))
        self._pipe.recv()


def _receive(pipe: Any, shapes: dict[str, tuple[int, ...]]) -> None:
    torch.set_num_threads(1)
    held = {name: torch.zeros(shape) for name, shape in shapes.items()}

    def load_weights(weights: Any) -> None:
        for name, tensor in weights:
            held[name].copy_(tensor)

    engine = GlooEngine.__new__(GlooEngine)  # its own constructor wants vLLM's whole configuration
    engine.model = SimpleNamespace(load_weights=load_weights)
    engine.parallel_config = SimpleNamespace(rank=0)
    does = {
        "init": lambda told: engine.init_transfer_engine(GlooInit(**told)),
        "start": lambda _: engine.start_weight_update(),
        "update": engine.update_weights,
        "finish": lambda _: engine.finish_weight_update(),
    }
    while True:
        what, told = pipe.recv()
        does[what](told)
        pipe.send("done")


class OneByOne:
    """A source of a single weight at a time."""

    def __init__(self, name: str, weight: CheckpointWeight) -> None:
        self._whole = PolicySource({name: weight}, lambda _: nullcontext())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)


def large_weights(gigabytes: float) -> dict[str, CheckpointWeight]:
    """Layers of four square matrices, of which the last layer's learn."""
    layers = round(gigabytes * 1e9 / (4 * WIDTH**2 * 4))
    return {
        f"model.layers.{layer}.mlp.part_{part}.weight": CheckpointWeight(
            torch.nn.Parameter(torch.randn(WIDTH, WIDTH), requires_grad=layer == layers - 1)
        )
        for layer in range(layers)
        for part in range(4)
    }


def bytes_of(weights: Mapping[str, CheckpointWeight]) -> int:
    """Of all of them."""
    return sum(w.parameter.numel() * w.parameter.element_size() for w in weights.values())


def transport(gigabytes: float, rounds: int) -> dict[str, Any]:
    """Bytes a second of each way over one process's weights."""
    weights = large_weights(gigabytes)
    learning = {name: w for name, w in weights.items() if w.learns}
    receiver = Receiver({name: tuple(w.parameter.shape) for name, w in weights.items()})
    client: Any = Client(receiver.pipe)
    source = PolicySource(weights, lambda _: nullcontext())
    trainer = GlooTrainer.trainer_init(
        GlooTrainerInit(HOST, 2, rank=0), client=client, source=source
    )

    def send(source: Any) -> None:
        trainer.source = source
        with torch.no_grad():
            trainer.send_weights()

    def partial() -> None:
        source = PolicySource(weights, lambda _: nullcontext())
        source.finish()  # as behind a first round, which sent everything
        send(source)

    there = [torch.empty_like(w.parameter) for w in weights.values()]

    def copy() -> None:
        for to, weight in zip(there, weights.values(), strict=True):
            to.copy_(weight.parameter.detach())

    def one_by_one() -> None:
        for name, weight in weights.items():
            send(OneByOne(name, weight))

    ways: dict[str, Callable[[], object]] = {
        "full": lambda: send(PolicySource(weights, lambda _: nullcontext())),
        "copy": copy,
        "one_by_one": one_by_one,
        "partial": partial,
    }
    try:
        took = measuring.by_turns(ways, rounds)
    finally:
        receiver.close()
    sizes = dict.fromkeys(ways, bytes_of(weights)) | {"partial": bytes_of(learning)}
    return {
        "took": took,
        "speed": {way: sizes[way] / median(seconds) for way, seconds in took.items()},
    }


def zero3(rounds: int) -> tuple[int, float]:
    """Bytes of a policy sharded over two ranks, and seconds in which it is gathered and sent."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
        build_tiny_text(Path(folder), 0, SIZE)
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
        probe.close()
        ours, theirs = context.Pipe()
        ranks = [
            context.Process(target=_rank, args=(i, port, folder, rounds, theirs)) for i in (0, 1)
        ]
        for rank in ranks:
            rank.start()
        try:
            return ours.recv()
        finally:
            for rank in ranks:
                rank.join(timeout=30)
                rank.kill()


def _rank(rank: int, port: int, folder: str, rounds: int, pipe: Any) -> None:
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK="0", WORLD_SIZE="2")
    from actors.training.deepspeed_engine import DeepSpeedEngine

    address = f"tcp://{HOST}:{port}"
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    config = PolicyConfig(path=folder, dtype="float32")
    encoder = InputEncoder(folder, PromptConfig(), False)
    learner = LearnerConfig(zero_stage=3, optimizer=OptimizerConfig())
    model = load_model(config, folder, as_saved=True)
    policy = build_policy(model, config, encoder, learner=learner)
    engine = DeepSpeedEngine(policy, learner, "float32", 1)
    weights = engine.weights()
    source = PolicySource(weights, engine.gathered)
    metadata = source.metadata()
    client: Any = None
    if rank == 0:
        receiver = Receiver({meta.name: tuple(meta.shape) for meta in metadata})
        client = Client(receiver.pipe)
    trainer = GlooTrainer.trainer_init(
        GlooTrainerInit(HOST, 2, rank=rank), client=client, source=source
    )

    def send() -> None:
        trainer.source = PolicySource(weights, engine.gathered)
        with torch.no_grad():
            trainer.send_weights()
        torch.distributed.barrier()

    took = measuring.by_turns({"zero3": send}, rounds)
    if rank == 0:
        size = sum(_bytes(meta.dtype, meta.shape) for meta in metadata)
        pipe.send((size, median(took["zero3"])))
        receiver.close()


def _bytes(dtype: torch.dtype, shape: tuple[int, ...]) -> int:
    return dtype.itemsize * torch.Size(shape).numel()


def copied(size: int, rounds: int) -> float:
    """Median seconds of a plain copy of so many bytes."""
    here: Tensor = torch.ones(size // 4)
    there = torch.empty_like(here)
    return median(measuring.by_turns({"copy": lambda: there.copy_(here)}, rounds)["copy"])


def main() -> None:
    options = measuring.parser(__doc__, rounds=5)
    options.add_argument("--gigabytes", type=float, default=1.0)
    chosen = options.parse_args()
    found = transport(chosen.gigabytes, chosen.rounds)
    size, seconds = zero3(chosen.rounds)
    took = found["took"]
    figures: dict[str, Any] = {
        **{f"{way}_gb_per_s": speed / 1e9 for way, speed in found["speed"].items()},
        "partial_s": median(took["partial"]),
        "zero3_gb_per_s": size / seconds / 1e9,
        "zero3_gb": size / 1e9,
    }
    ratios = {
        "full_over_copy": measuring.times_faster(took, "full", "copy"),
        "full_over_one_by_one": measuring.times_faster(took, "full", "one_by_one"),
        "partial_over_full": measuring.times_faster(took, "partial", "full"),
        "zero3_over_copy": copied(size, chosen.rounds) / seconds,
    }
    measuring.report(
        chosen.out, "Weight sync", figures=figures, ratios=ratios, goals={"full_over_copy": 0.5}
    )


if __name__ == "__main__":
    main()
