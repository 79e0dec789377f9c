"""The rollout worker: one vLLM engine that answers problems, token ids in and token ids out."""

import asyncio
import logging
import multiprocessing
import os
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any, Literal, NoReturn, cast

import torch

from actors.cluster.actor_names import NamedActor
from actors.cluster.metrics import Metrics
from actors.rollout.prompts import EnginePrompts, embedded_images
from actors.rollout.vllm_engine import sampling_params, start_engine, with_experts
from configs.schema.data import PromptConfig
from configs.schema.policy import ModelConfig
from configs.schema.reward import ThinkingConfig
from configs.schema.rollout import EngineConfig, Transport
from models.inputs.encoder import InputEncoder
from models.policy.features import KeptEmbeddings
from models.policy.weight_sums import WeightSums
from rl.data.records import Answer, Group, Problem, SamplingRequest

logger = logging.getLogger(__name__)


class RolloutWorker(NamedActor):
    """Owns one vLLM `AsyncLLM` and knows which policy version it holds.

    A plain class; the cluster makes it an asyncio Ray actor, so many problems are in flight at a
    time. When the engine dies the worker ends its process: a worker without an engine would only
    answer errors for ever, while a dead actor is noticed and replaced.
    """

    def __init__(
        self,
        folder: str | Path,
        policy: ModelConfig,
        prompt: PromptConfig,
        rollout: EngineConfig,
        transport: Transport | None,
        thinking: ThinkingConfig,
    ) -> None:
        """Start the engine on the checkpoint in `folder`; takes half a minute on a laptop.

        `transport`: the way of new weights; None: the weights stay as they are. `thinking`: tags
        that stay in the answers' text where they are special tokens.
        """
        if not torch.cuda.is_available():
            _fit_to_cpu(rollout.tensor_parallel_size)
        if transport == "ipc":
            # GPU memory handles are Python objects; vLLM hands them on to its own processes only
            # when it is told that the sender is trusted, which the learner of this run is.
            os.environ["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1"
        os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(rollout.cpu_kv_cache_gib)
        self._encoder = InputEncoder(folder, prompt, policy.trust_remote_code)
        self._health_timeout_s = rollout.health_timeout_s
        self._tags = (thinking.open_tag, thinking.close_tag)
        self._metrics = Metrics()
        self._set_version(0)
        self._asleep = False
        self._names = count()
        self._engine: Any = start_engine(folder, policy, prompt, rollout, transport, self._encoder)
        self._prompts = EnginePrompts(self._encoder, self._engine.model_config.dtype)
        self._batches_embeddings = False

    async def wait_ready(self) -> int:
        """The number of engine ranks, once all of them answer.

        An engine that is stuck, as in a broadcast whose sender is gone, ends its worker.
        """
        try:
            ranks = await asyncio.wait_for(
                self._guarded(self._engine.collective_rpc("ping")), self._health_timeout_s
            )
        except TimeoutError:
            self._die(f"gave no sign of life for {self._health_timeout_s:g} s")
        return len(ranks)

    async def check_health(self) -> None:
        """Return at once. A worker whose engine has died ends: vLLM leaves calls to it open."""
        await self._guarded(self._engine.check_health())

    async def sample(
        self, problem: Problem, request: SamplingRequest, kept: KeptEmbeddings | None = None
    ) -> Group:
        """`request.count` answers to one problem, each with its sampled logprobs and versions.

        `kept`: where embeddings of images may be, to be read in place of pixels; None: nowhere.
        """
        from vllm.v1.engine.exceptions import EngineDeadError

        params = sampling_params(request, self._encoder.image_token_ids)
        name = str(next(self._names))
        try:
            prompt = await asyncio.to_thread(self._prompts, problem, kept)
            embedded = embedded_images(prompt)
            if embedded and not self._batches_embeddings:
                await self._engine.collective_rpc("batch_embeddings_of_any_length")
                self._batches_embeddings = True
            final: Any = None
            async for output in self._engine.generate(prompt, params, name):
                final = output
        except EngineDeadError:
            self._die()
        answers = sorted(final.outputs, key=lambda output: output.index)
        for output in answers:
            self._metrics.observe("rollout_answer_tokens", len(output.token_ids))
        group = Group(
            problem=problem.without_images(),  # whoever asked has them
            prompt_ids=tuple(final.prompt_token_ids),
            answers=tuple(self._answer(output) for output in answers),
            embedded_images=None if kept is None else embedded,
        )
        return with_experts(group, answers) if request.experts else group

    def _answer(self, output: Any) -> Answer:
        ids = tuple(output.token_ids)
        assert tuple(output.logprobs.token_ids) == ids, "a logprob of each sampled token alone"
        logprobs = tuple(output.logprobs.logprobs)
        if output.finish_reason not in ("stop", "length"):
            raise RuntimeError(f"vLLM ended an answer with {output.finish_reason!r}")
        reason = cast(Literal["stop", "length"], output.finish_reason)
        text = self._encoder.decode(ids, keep=self._tags)
        first, *later = output.weight_versions
        newer = tuple((_number(span.version), span.start) for span in later)
        return Answer(ids, logprobs, text, reason, _number(first.version), newer)

    async def sleep(self, whole: bool) -> None:
        """Give the GPU's memory back until `wake_weights` and `resume_generation`.

        `whole`: the next update brings every weight, so that none has to be kept on the host.
        """
        loose = await self._guarded(self._engine.collective_rpc("loose_tensors"))
        level = 2 if whole and not any(loose) else 1
        self._asleep = True
        await self._guarded(self._engine.sleep(level, mode="keep"))

    async def wake_weights(self) -> None:
        """Take memory for weights again, for an update. Keys and values, and so all answers, wait
        for `resume_generation`."""
        if self._asleep:
            await self._guarded(self._engine.wake_up(["weights"]))

    async def init_weight_transfer_engine(self, request: Any) -> None:
        """Meet the learner's sender (vLLM's weight-transfer API, as the next three).

        The group that met before is left: else each would keep its NCCL buffers on the GPU.
        """
        await self._guarded(self._engine.collective_rpc("end_update"))
        await self._guarded(self._engine.shutdown_weight_transfer_engine())
        await self._guarded(self._engine.init_weight_transfer_engine(request))

    async def start_weight_update(self) -> None:
        """Freeze running answers and drop every cache made by the old weights.

        Key-value, prefix and image-embedding caches go; frozen answers are read again with the new
        weights when they go on. An update that was begun and broken off elsewhere is ended first.
        """
        await self._guarded(self._engine.pause_generation(mode="keep", clear_cache=True))
        await self._guarded(self._engine.collective_rpc("end_update"))
        await self._guarded(self._engine.start_weight_update())

    async def update_weights(self, request: Any) -> None:
        """Receive the new weights."""
        await self._guarded(self._engine.update_weights(request))

    async def finish_weight_update(self) -> None:
        """Put the new weights in place; the engine stays frozen until `resume_generation`."""
        await self._guarded(self._engine.finish_weight_update())

    async def set_weight_version(self, version: int) -> None:
        """Call the weights `version` from now on."""
        await self._guarded(self._engine.update_weight_version(str(version)))
        self._set_version(version)

    def _set_version(self, version: int) -> None:
        self._metrics.set("rollout_policy_version", version)

    async def resume_generation(self) -> None:
        """Let answers go on, once the weights were found to be the right ones."""
        if self._asleep:
            await self._guarded(self._engine.wake_up(["kv_cache"]))
            self._asleep = False
        await self._guarded(self._engine.resume_generation())

    async def readback(self, names: Sequence[str]) -> tuple[str, dict[str, str], WeightSums]:
        """The engine's version, the weight group of each checkpoint name, and the groups' sums."""
        version = await self._guarded(self._engine.get_weight_version())
        groups = await self._guarded(self._engine.collective_rpc("weight_groups", args=(names,)))
        sums = WeightSums()
        for rank in await self._guarded(self._engine.collective_rpc("weight_sums")):
            for group, own in rank.items():
                sums.add(group, own)
        return version, groups[0], sums

    async def _guarded(self, call: Any) -> Any:
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            return await call
        except EngineDeadError:
            self._die()

    def _die(self, how: str = "died") -> NoReturn:
        logger.error("the vLLM engine %s; ending this rollout worker so that it is replaced", how)
        logging.shutdown()
        for child in multiprocessing.active_children():
            child.kill()  # one that is stuck would not notice that its parent is gone
        os._exit(1)


def _number(label: str) -> int:
    """The version that vLLM's label of weights names; before the first sync they have another."""
    return 0 if label == "default" else int(label)


def _fit_to_cpu(ranks: int) -> None:
    """Settings of vLLM's CPU engine for a machine that others compute on, too."""
    if ranks == 1:
        # Else vLLM gives the one worker a process of its own, and the engine's core spins on a core
        # of the machine while it waits for it.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        return
    # vLLM would bind each rank to a memory node of its own, which small machines have not.
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    threads = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    os.environ["OMP_NUM_THREADS"] = str(max(1, threads // ranks))
