"""The sections of a recipe about engines: how they answer, and how new weights reach them."""

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from configs.schema.base import StrictModel
from configs.schema.policy import ModelConfig, PolicyConfig


class EngineConfig(StrictModel):
    """The engines that answer."""

    workers: PositiveInt = 1
    """Rollout actors, each with one vLLM engine."""
    cpus_per_worker: PositiveFloat = 1.0
    """CPU cores that Ray reserves for each rollout actor on a GPU machine."""
    tensor_parallel_size: PositiveInt = 1
    """Devices of one engine."""
    temperature: PositiveFloat = 1.0
    """Sampling temperature (paper, section 2.2: 1.0); the learner divides its logits by it too."""
    max_new_tokens: PositiveInt = 8192
    """Longest answer (paper, section 2.2: 8k)."""
    dtype: Literal["bfloat16", "float32"] | None = None
    """Precision of an engine's weights; null: the policy's, and float32 where adapters learn, since
    merging them into bfloat16 weights loses small changes."""
    max_num_seqs: PositiveInt = 64
    """Sequences an engine decodes at a time."""
    gpu_memory_utilization: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.85
    """Share of a GPU's memory that an engine may take; with sync.shared_gpu at most 0.6."""
    cpu_kv_cache_gib: PositiveInt = 1
    """Memory of an engine's key-value cache on CPU, GiB."""
    cpu_threads: PositiveInt | None = None
    """Threads of an engine on a CPU machine; null: its cores divided among all that compute
    at the same time. The smallest models are fastest with 1."""
    enforce_eager: bool = False
    """Skip compilation and CUDA graphs: faster start, slower steps."""
    engine_args: dict[str, Any] = Field(default={})
    """Further arguments of vLLM's engine by vLLM's own names (AsyncEngineArgs), such as
    {kv_cache_dtype: fp8, max_num_batched_tokens: 16384}; what other keys decide is refused."""
    restarts: NonNegativeInt = 3
    """Times that dead engines are started again before the run ends, all of them together."""
    health_timeout_s: PositiveFloat = 60.0
    """Seconds without a sign of life after which an engine or a reward worker counts as stuck and
    is replaced."""
    timeout_s: PositiveFloat = 7200.0
    """Seconds that a problem may take from being asked to the last of its scores, the wait for a
    free engine included; the run ends behind them."""


class RolloutConfig(EngineConfig):
    """The engines that answer."""

    group_size: Annotated[int, Field(ge=2)] = 8
    """Answers to each problem (paper, section 2.2: 8)."""


class SyncConfig(StrictModel):
    """How new weights reach the engines."""

    transport: Literal["auto", "nccl", "ipc", "gloo"] = "auto"
    """auto: gloo on CPU, ipc where learner and engine share a GPU, nccl otherwise."""
    shared_gpu: bool = False
    """Learner ranks and engines sit on the same GPUs, rank i beside engine i."""
    timeout_s: PositiveFloat = 900.0
    """Seconds that weights may be on their way, read-back included; the run ends behind them. An
    engine that dies meanwhile is noticed in seconds and replaced."""
    max_logprob_gap: PositiveFloat = 0.5
    """The run ends when sampler and learner logprobs of a step's answers are further apart on
    average, nats, in three steps running: the engines do not hold the policy that learns."""
    tolerance: PositiveFloat = 1e-10
    """Largest relative gap between float64 sums of weights sent and held; rounding stays below."""


Transport = Literal["nccl", "ipc", "gloo"]


def engine_dtype(policy: ModelConfig, rollout: EngineConfig) -> Literal["bfloat16", "float32"]:
    """Precision of the engines' weights, resolved."""
    adapters = isinstance(policy, PolicyConfig) and policy.lora is not None
    return rollout.dtype or ("float32" if adapters else policy.dtype)
