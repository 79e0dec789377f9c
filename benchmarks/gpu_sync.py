"""Bytes a second of weights on their way between two processes on GPUs.

    python benchmarks/gpu_sync.py --out gpu_sync.json
    python benchmarks/gpu_sync.py --out gpu_sync.json --tiny      # anywhere: does it run?

handles: both processes on one GPU, the second opens the first's memory and copies it, as vLLM's
`ipc` transport does. flat and one_by_one, where there are two GPUs: NCCL broadcasts of a layer's
weights in one buffer, and of each weight by itself. copy: a plain copy on the device. Needs torch
alone.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from benchmarks import measuring

WIDTH = 4096
A_LAYER = 7
"""Weights of a layer, as q, k, v, o, gate, up and down."""


def layers_of(gigabytes: float, width: int, device: torch.device) -> list[list[torch.Tensor]]:
    """Layers of square bfloat16 matrices."""
    count = max(1, round(gigabytes * 1e9 / (2 * width**2 * A_LAYER)))
    return [
        [torch.ones(width, width, dtype=torch.bfloat16, device=device) for _ in range(A_LAYER)]
        for _ in range(count)
    ]


def done(device: torch.device) -> None:
    """Wait until the device is."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _opened(pipe: Any, gigabytes: float, width: int) -> None:
    """The second process: copies what it is handed into weights of its own."""
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    held = layers_of(gigabytes, width, device)
    pipe.send("ready")
    while True:
        handed = pipe.recv()
        for own, theirs in zip(held, handed, strict=True):
            for to, tensor in zip(own, theirs, strict=True):
                to.copy_(tensor)
        done(device)
        del handed, theirs, tensor
        pipe.send("done")


def by_handles(gigabytes: float, width: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of handing all weights over, and of a plain copy."""
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    layers = layers_of(gigabytes, width, device)
    if device.type == "cpu":
        for layer in layers:
            for tensor in layer:
                tensor.share_memory_()
    there = layers_of(gigabytes, width, device)
    context = mp.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_opened, args=(theirs, gigabytes, width), daemon=True)
    process.start()
    ours.recv()

    def handles() -> None:
        ours.send(layers)
        ours.recv()

    def copy() -> None:
        for to, layer in zip(there, layers, strict=True):
            for own, tensor in zip(to, layer, strict=True):
                own.copy_(tensor)
        done(device)

    try:
        return measuring.by_turns({"handles": handles, "copy": copy}, rounds)
    finally:
        process.kill()


def _broadcasts(rank: int, where: str, sizes: tuple[float, int, int], queue: Any) -> None:
    gigabytes, width, rounds = sizes
    on_gpu = torch.cuda.is_available()
    device = torch.device(f"cuda:{rank}" if on_gpu else "cpu")
    backend = "nccl" if on_gpu else "gloo"
    dist.init_process_group(backend, init_method=where, rank=rank, world_size=2)
    layers = layers_of(gigabytes, width, device)

    def flat() -> None:
        for layer in layers:
            buffer = torch.cat([tensor.reshape(-1) for tensor in layer])
            dist.broadcast(buffer, 0)
            parts = buffer.split([tensor.numel() for tensor in layer])
            for tensor, part in zip(layer, parts, strict=True):
                tensor.copy_(part.view_as(tensor))
        done(device)

    def one_by_one() -> None:
        for layer in layers:
            for tensor in layer:
                dist.broadcast(tensor, 0)
        done(device)

    ways: dict[str, Callable[[], object]] = {"flat": flat, "one_by_one": one_by_one}
    took = measuring.by_turns(ways, rounds)
    if rank == 0:
        queue.put(took)


def by_broadcast(gigabytes: float, width: int, rounds: int, folder: Path) -> dict[str, list[float]]:
    """Seconds of all weights from one process to the other."""
    context = mp.get_context("spawn")
    queue = context.Queue()
    where = f"file://{folder}/meeting"
    arguments = [(rank, where, (gigabytes, width, rounds), queue) for rank in (0, 1)]
    ranks = [context.Process(target=_broadcasts, args=each, daemon=True) for each in arguments]
    for rank in ranks:
        rank.start()
    took = queue.get()
    for rank in ranks:
        rank.join()
    return took


def main() -> None:
    options = measuring.parser(__doc__, rounds=10)
    options.add_argument("--gigabytes", type=float, default=3.0)
    options.add_argument("--tiny", action="store_true", help="few megabytes, on the CPU too")
    chosen = options.parse_args()
    gigabytes, width = (0.002, 128) if chosen.tiny else (chosen.gigabytes, WIDTH)
    if not (torch.cuda.is_available() or chosen.tiny):
        options.error("there is no GPU; --tiny runs anywhere")
    took = by_handles(gigabytes, width, chosen.rounds)
    if torch.cuda.device_count() >= 2 or not torch.cuda.is_available():
        with tempfile.TemporaryDirectory() as folder:
            took |= by_broadcast(gigabytes, width, chosen.rounds, Path(folder))
    figures: dict[str, Any] = {"gigabytes": gigabytes, **measuring.medians(took)}
    ratios = {
        f"{way}_over_copy": measuring.times_faster(took, way, "copy")
        for way in took
        if way != "copy"
    }
    measuring.report(chosen.out, "Weights between GPUs", figures=figures, ratios=ratios)


if __name__ == "__main__":
    main()
