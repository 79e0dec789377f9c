"""Bytes a second of a weight sync between GPUs, by the way that a run takes.

    python benchmarks/gpu_sync.py --out gpu_sync.json
    python benchmarks/gpu_sync.py --out gpu_sync.json --tiny      # anywhere: does it run?

The learner's own sender, which sums every weight on its way, and vLLM's receiving end with its
reload layer by layer, in actors as in a run. ipc: both on one GPU. nccl: on two, where there are
two. copy: a plain copy of as many bytes on the device. Where there is no GPU, files play the memory
that two processes share, and a store plays NCCL.
"""

import sys
import tempfile
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import ray
import torch
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from torch import Tensor, nn

from actors.cluster.ray_session import ray_session
from actors.weight_transfer.rendezvous import Rendezvous
from benchmarks import measuring
from configs.schema.rollout import Transport
from models.policy.checkpoint_weights import CheckpointWeight
from models.policy.weight_sums import WeightSums, compare_sums, sum_and_squares

WIDTH = 4096
A_LAYER = 7
"""Weights of a layer, as q, k, v, o, gate, up and down."""
Size = tuple[int, int]
"""Layers, and rows and columns of each weight."""


class Policy(nn.Module):
    """Layers of square bfloat16 matrices, which vLLM can load and reload."""

    def __init__(self, size: Size, device: torch.device) -> None:
        super().__init__()
        layers, width = size
        made = {"bias": False, "dtype": torch.bfloat16, "device": device}
        self.layers = nn.ModuleList(
            nn.ModuleDict({f"part_{i}": nn.Linear(width, width, **made) for i in range(A_LAYER)})
            for _ in range(layers)
        )

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """As vLLM's models do."""
        from vllm.model_executor.model_loader.weight_utils import default_weight_loader

        for name, tensor in weights:
            parameter: Any = self.get_parameter(name)
            getattr(parameter, "weight_loader", default_weight_loader)(parameter, tensor)


def _device(transport: Transport, folder: str) -> torch.device:
    """This process's; without a GPU one is played."""
    if torch.cuda.is_available():
        return torch.device("cuda:0")
    from tests.played.nccl import play_nccl
    from tests.ray.played_gpus import play_gpu

    if transport == "ipc":
        play_gpu("GPU-0", Path(folder))
    else:
        play_nccl(setattr)
    return torch.device("cpu")


class Learner:
    """The sending end, as a learner's only rank."""

    def __init__(self, transport: Transport, size: Size, folder: str) -> None:
        device = _device(transport, folder)
        self._transport: Transport = transport
        self._policy = Policy(size, device)
        self._spare = Policy(size, device) if transport == "ipc" else None

    def meet(self, engine: Any) -> None:
        """Form the group with one engine of one rank."""
        from actors.weight_transfer.sender import WeightSender

        self._sender = WeightSender(
            Rendezvous(self._transport, [engine], 1),
            {name: CheckpointWeight(weight) for name, weight in self._policy.named_parameters()},
            rank=0,
            gathered=lambda _: nullcontext(),
            precision=torch.bfloat16,
        )

    def send(self) -> WeightSums:
        """One round; the sums of what was sent."""
        return self._sender.send()

    @torch.no_grad()
    def copy(self) -> None:
        """As many bytes to another place of the device."""
        assert self._spare is not None
        pairs = zip(self._spare.parameters(), self._policy.parameters(), strict=True)
        for to, weight in pairs:
            to.copy_(weight)
        if torch.cuda.is_available():
            torch.cuda.synchronize()


class Engine:
    """vLLM's receiving end, as an engine's only worker."""

    def __init__(self, transport: Transport, size: Size, folder: str) -> None:
        from vllm.config import WeightTransferConfig
        from vllm.distributed.weight_transfer import WeightTransferEngineFactory
        from vllm.model_executor.model_loader.reload import record_metadata_for_reloading

        device = _device(transport, folder)
        with device:
            self._policy = Policy(size, device)
            record_metadata_for_reloading(self._policy)
        alone = SimpleNamespace(rank=0, world_size=1, data_parallel_index=0)
        whole: Any = SimpleNamespace(parallel_config=alone, model_config=None)
        self._transfer: Any = WeightTransferEngineFactory.create_engine(
            WeightTransferConfig(backend=transport), whole, device, self._policy
        )

    def init_weight_transfer_engine(self, request: Any) -> None:
        """Meet the sender (vLLM's weight-transfer API, as the next three)."""
        self._transfer.init_transfer_engine(self._transfer.parse_init_info(request.init_info))

    def start_weight_update(self) -> None:
        self._transfer.start_weight_update()

    def update_weights(self, request: Any) -> None:
        with torch.no_grad():
            self._transfer.update_weights(request.update_info)

    def finish_weight_update(self) -> None:
        self._transfer.finish_weight_update()

    def sums(self) -> WeightSums:
        """Of what it holds."""
        held = self._policy.named_parameters()
        return WeightSums({name: sum_and_squares(weight) for name, weight in held})


def pair(transport: Transport, size: Size, folder: str) -> tuple[Any, Any]:
    """A learner and an engine that have met, on one GPU or on two."""
    kinds = (Learner, Engine)
    if torch.cuda.is_available():
        bundles = [{"GPU": 1.0, "CPU": 1.0}] * (1 if transport == "ipc" else 2)
        group = placement_group(bundles)
        ray.get(group.ready())
        share = len(bundles) / 2
        seats = [PlacementGroupSchedulingStrategy(group, i % len(bundles)) for i in range(2)]
        options = [{"num_gpus": share, "num_cpus": 0, "scheduling_strategy": s} for s in seats]
    else:
        options = [{"num_cpus": 0}] * 2
    learner, engine = (
        ray.remote(kind).options(**own).remote(transport, size, folder)
        for kind, own in zip(kinds, options, strict=True)
    )
    ray.get(learner.meet.remote(engine))
    return learner, engine


def seconds_of_ways(size: Size, rounds: int, folder: str) -> dict[str, list[float]]:
    """Seconds of each way in each round.

    Raises:
        RuntimeError: an engine holds something else than was sent.
    """
    two = torch.cuda.device_count() >= 2 or not torch.cuda.is_available()
    ways: tuple[Transport, ...] = ("ipc", "nccl") if two else ("ipc",)
    pairs = {way: pair(way, size, folder) for way in ways}

    def send(way: str) -> None:
        ray.get(pairs[way][0].send.remote())

    calls = {way: lambda way=way: send(way) for way in ways}
    took = measuring.by_turns(
        calls | {"copy": lambda: ray.get(pairs["ipc"][0].copy.remote())}, rounds
    )
    for way, (learner, engine) in pairs.items():
        sent = ray.get(learner.send.remote())
        if faults := compare_sums(sent, ray.get(engine.sums.remote()), 1e-10):
            raise RuntimeError(f"{way} lost something on the way: {faults[0]}")
    return took


def main() -> None:
    options = measuring.parser(__doc__, rounds=10)
    options.add_argument("--gigabytes", type=float, default=3.0)
    options.add_argument("--tiny", action="store_true", help="few megabytes, on the CPU too")
    chosen = options.parse_args()
    gigabytes, width = (0.002, 128) if chosen.tiny else (chosen.gigabytes, WIDTH)
    if not (torch.cuda.is_available() or chosen.tiny):
        options.error("there is no GPU; --tiny runs anywhere")
    layers = max(1, round(gigabytes * 1e9 / (2 * width**2 * A_LAYER)))
    sent = layers * A_LAYER * 2 * width**2
    with ray_session(), tempfile.TemporaryDirectory() as folder:
        took = seconds_of_ways((layers, width), chosen.rounds, folder)
    medians = measuring.medians(took)
    speeds = {f"{way}_gb_per_s": sent / 1e9 / medians[f"{way}_s"] for way in took}
    figures: dict[str, Any] = {"gigabytes": sent / 1e9, **medians, **speeds}
    ratios = {
        f"{way}_over_copy": measuring.times_faster(took, way, "copy")
        for way in took
        if way != "copy"
    }
    measuring.report(chosen.out, "Weights between GPUs", figures=figures, ratios=ratios)


if __name__ == "__main__":
    main()
