"""Engines of two ranks and a learner of two, in threads, for vLLM's `nccl` transport.

An engine's rank has vLLM's own model, sharded as by tensor parallelism, and vLLM's own end of the
transport. A learner's rank has the project's sender, and weights as of ZeRO 3: empty, and whole
where all ranks ask for them together. Played are Ray's calls, NCCL's communicator and streams.
"""

import copy
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from vllm.config import VllmConfig, WeightTransferConfig, set_current_vllm_config
from vllm.distributed import parallel_state
from vllm.distributed.weight_transfer.nccl_engine import NCCLWeightTransferEngine
from vllm.engine.arg_utils import EngineArgs
from vllm.model_executor.model_loader import get_model

from actors.weight_transfer import sender
from actors.weight_transfer.readback import WeightReadback
from actors.weight_transfer.rendezvous import Rendezvous
from actors.weight_transfer.sender import WeightSender
from models.policy.checkpoint_weights import CheckpointWeight
from models.policy.weight_sums import WeightSums
from tests.played.nccl import play_nccl
from tests.played.streams import Put

WIDTH = 2
"""Ranks of an engine, and of the learner."""
_PATIENCE_S = 60.0
_own = threading.local()


class _TensorParallel:
    """vLLM's group of an engine's ranks, each of which is a thread."""

    world_size = WIDTH

    @property
    def rank_in_group(self) -> int:
        return _own.rank


def play_ranks(put: Put) -> None:
    """Let threads of this process be ranks of engines, and of the learner."""
    play_nccl(put)
    alone = SimpleNamespace(world_size=1, rank_in_group=0, is_first_rank=True, is_last_rank=True)
    put(parallel_state, "_TP", _TensorParallel())
    put(parallel_state, "_PP", alone)
    played = SimpleNamespace(
        wait=_wait,
        get=lambda calls: [call.result() for call in calls],
        util=SimpleNamespace(get_node_ip_address=lambda: "127.0.0.1"),
    )
    put(sender, "ray", played)


def _wait(calls: Sequence[Future[Any]]) -> tuple[list[Future[Any]], list[Future[Any]]]:
    done, left = wait(calls, return_when=FIRST_COMPLETED)
    return list(done), list(left)


def engine_config(folder: Path) -> VllmConfig:
    """Of an engine of two ranks on the checkpoint in `folder`."""
    args = EngineArgs(str(folder), dtype="float32", tensor_parallel_size=WIDTH, max_model_len=64)
    return args.create_engine_config()


class EngineRank(WeightReadback):
    """A worker of an engine."""

    def __init__(self, config: VllmConfig, number: int) -> None:
        """Load the checkpoint that the config names."""
        _own.rank = number
        own = copy.deepcopy(config)
        own.parallel_config.rank = number
        with set_current_vllm_config(own):
            self.model = get_model(vllm_config=own)
        self.model_runner = SimpleNamespace(get_model=lambda: self.model)
        self.transfer = NCCLWeightTransferEngine(
            WeightTransferConfig(backend="nccl"), own, torch.device("cpu"), self.model
        )


class Engine:
    """A rollout actor, as senders know it: calls that Ray would make, of all ranks at a time."""

    def __init__(self, config: VllmConfig) -> None:
        self._threads = [ThreadPoolExecutor(1) for _ in range(WIDTH)]
        self.ranks = [
            thread.submit(EngineRank, config, number).result()
            for number, thread in enumerate(self._threads)
        ]
        self.rounds: list[list[str]] = []
        """Names that each update announced."""
        self.init_weight_transfer_engine = self._remote(
            lambda rank, request: rank.transfer.init_transfer_engine(
                rank.transfer.parse_init_info(request.init_info)
            )
        )
        self.start_weight_update = self._remote(lambda rank: rank.transfer.start_weight_update())
        self.update_weights = self._remote(self._receive)
        self.finish_weight_update = self._remote(lambda rank: rank.transfer.finish_weight_update())

    def _receive(self, rank: EngineRank, request: Any) -> None:
        if rank is self.ranks[0]:
            self.rounds.append(request.update_info["names"])
        rank.transfer.update_weights(request.update_info)

    def in_ranks(self, work: Callable[..., Any], *args: Any) -> list[Future[Any]]:
        """`work(rank, *args)` in the thread of each rank."""
        pairs = zip(self._threads, self.ranks, strict=True)
        return [thread.submit(work, rank, *args) for thread, rank in pairs]

    def _remote(self, work: Callable[..., Any]) -> Any:
        """A method of an actor's handle: its call fails as soon as one rank does."""

        def remote(*args: Any) -> Future[Any]:
            calls = self.in_ranks(work, *args)
            over = Future[Any]()

            def look() -> None:
                done = wait(calls, return_when=FIRST_EXCEPTION).done
                faults = [fault for call in done if (fault := call.exception())]
                over.set_exception(faults[0]) if faults else over.set_result(None)

            threading.Thread(target=look, daemon=True).start()
            return over

        return SimpleNamespace(remote=remote)

    def readback(self, names: Sequence[str]) -> tuple[dict[str, str], WeightSums]:
        """As a rollout worker's: the weight group of each name, and the groups' sums."""
        sums = WeightSums()
        for rank in self.in_ranks(EngineRank.weight_sums):
            for group, own in rank.result().items():
                sums.add(group, own)
        return self.ranks[0].weight_groups(names), sums

    def close(self) -> None:
        """Free ranks that wait for weights."""
        for rank in self.ranks:
            rank.transfer.shutdown()
        for thread in self._threads:
            thread.shutdown()


class Learner:
    """Two ranks that have a shard each."""

    def __init__(self, whole: Mapping[str, Tensor], learning: str) -> None:
        """`whole`: the policy, by its names; weights whose names have `learning` in them learn."""
        self.whole = dict(whole)
        self._learning = learning
        self._meets = threading.Barrier(WIDTH)
        self._asked: list[list[str]] = [[] for _ in range(WIDTH)]
        self._senders: list[WeightSender] = []
        self._threads = [ThreadPoolExecutor(1) for _ in range(WIDTH)]

    def meet(
        self, engines: Sequence[Engine], joined: Mapping[str, Callable[[Tensor], dict[str, Tensor]]]
    ) -> None:
        """Form the group. `joined`: what a checkpoint has in place of some weights."""
        meeting = Rendezvous("nccl", list(engines), WIDTH)
        made = [
            thread.submit(self._sender, rank, meeting, joined)
            for rank, thread in enumerate(self._threads)
        ]
        self._senders = [each.result(_PATIENCE_S) for each in made]

    def _sender(self, rank: int, meeting: Rendezvous, joined: Mapping[str, Any]) -> WeightSender:
        weights: dict[str, CheckpointWeight] = {}
        names: dict[int, str] = {}
        for name, tensor in self.whole.items():
            shard = Parameter(torch.empty(0), requires_grad=self._learning in name)
            shard.ds_shape = tensor.shape  # type: ignore[attr-defined]
            names[id(shard)] = name
            weights[name] = CheckpointWeight(shard, apart=joined.get(name))

        @contextmanager
        def gathered(parameters: Sequence[Any]) -> Generator[None]:
            asked = [names[id(parameter)] for parameter in parameters]
            self._asked[rank] = asked
            self._meets.wait(_PATIENCE_S)
            assert self._asked == [asked] * WIDTH, "each rank gathers another layer"
            self._meets.wait(_PATIENCE_S)
            for parameter, name in zip(parameters, asked, strict=True):
                parameter.data = self.whole[name].clone()
            try:
                yield
            finally:
                for parameter in parameters:
                    parameter.data = torch.empty(0)

        return WeightSender(meeting, weights, rank, gathered, torch.float32)

    def send(self) -> list[Future[WeightSums]]:
        """One round, of both ranks, when they are through it."""
        pairs = zip(self._threads, self._senders, strict=True)
        sent = [thread.submit(each.send) for thread, each in pairs]
        wait(sent, _PATIENCE_S)
        return sent

    def close(self) -> None:
        """Leave the group."""
        for each in self._senders:
            each.close()
        for thread in self._threads:
            thread.shutdown()
