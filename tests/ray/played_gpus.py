"""GPUs that an engine shares with learner ranks, played by files: a buffer on a GPU is a file that
two processes map, and its handle the file's name.

So vLLM's `ipc` transport runs on CPUs as it stands, both ends of it: who gathers, packs, hands
handles on and waits for whom, and which worker opens whose buffer. Engines sleep as on GPUs.
"""

from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from tests.played.nccl import play_nccl
from tests.played.streams import TorchWith
from tests.ray.probe import Probe

full = False
"""Whether the GPU of this process has no room for a buffer."""


def play_gpu(name: str, buffers: Path | None = None) -> list[str]:
    """Let this process have a GPU that is called `name`; whose handles it opens is noted.

    `buffers`: where those on its own GPU lie.
    """
    from torch.multiprocessing import reductions
    from vllm.distributed.weight_transfer import packed_tensor

    opened: list[str] = []
    numbers = count()

    def mapped(path: str, size: int) -> Tensor:
        return torch.from_file(path, shared=True, size=size, dtype=torch.uint8)

    def new_buffer(size: int, **_: Any) -> Tensor:
        assert buffers is not None, "only ranks of the learner have buffers"
        if full:
            raise torch.OutOfMemoryError(f"tried to allocate {size} bytes")
        path = str(buffers / f"{name}-{next(numbers)}")
        buffer = mapped(path, size)
        buffer.handle = (path, size, *[None] * 4, 0)  # type: ignore[attr-defined]
        return buffer

    def open_handle(path: str, size: int, *_: Any) -> Tensor:
        opened.append(Path(path).name.rpartition("-")[0])
        return mapped(path, size)

    # A function each, as torch's compiler tells functions of torch apart by who they are.
    played: list[tuple[Any, str, Any]] = [
        (torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid=name)),
        (torch.cuda, "current_stream", lambda: SimpleNamespace(synchronize=lambda: None)),
        (torch.cuda, "synchronize", lambda: None),
        (torch.cuda, "ipc_collect", lambda: None),
        (torch.accelerator, "synchronize", lambda: None),
        (torch.accelerator, "current_device_index", lambda: 0),
        (packed_tensor, "torch", TorchWith(empty=new_buffer)),
        (packed_tensor, "reduce_tensor", lambda buffer: (None, buffer.handle)),
        (reductions, "rebuild_cuda_tensor", open_handle),
    ]
    for module, function, part in played:
        setattr(module, function, part)
    return opened


def leave_gpu_for_nccl() -> None:
    """Let this process have no memory that others open any more, and NCCL."""
    from vllm.distributed.weight_transfer import packed_tensor

    vars(packed_tensor)["torch"] = torch
    play_nccl(setattr)


class GPUProbe(Probe):
    """A worker of an engine, on the GPU of the rank of the same number, which sleeps as on GPUs."""

    _opened: list[str] | None = None

    def ping(self) -> None:
        if self._opened is None:
            from vllm.distributed import get_tensor_model_parallel_rank

            self._opened = play_gpu(f"GPU-{get_tensor_model_parallel_rank()}")
            self.sleep_as_on_gpus()

    def opened(self) -> list[str]:
        """The GPUs whose buffers were opened, a name for each."""
        return self._opened or []

    def travel_by_nccl(self) -> None:
        """Take weights over NCCL from now on, which is played."""
        from vllm.config import WeightTransferConfig
        from vllm.distributed.weight_transfer.nccl_engine import NCCLWeightTransferEngine

        leave_gpu_for_nccl()
        own = self.weight_transfer_engine
        self.weight_transfer_engine = NCCLWeightTransferEngine(
            WeightTransferConfig(backend="nccl"), own.vllm_config, own.device, own.model
        )

    def is_empty(self) -> bool:
        """Whether no weight is left here."""
        return all(bool(weight.isnan().all()) for _, weight in self._weights())
