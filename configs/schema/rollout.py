"""The sections of a recipe about engines: how they answer, and how new weights reach them."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from configs.schema.base import StrictModel
from configs.schema.policy import ModelConfig, PolicyConfig


class DistributionConfig(StrictModel):
    """What tokens are drawn from. The learner divides its logits alike, and cuts and renormalises
    its probabilities alike, so that sampler and learner speak of one distribution."""

    temperature: PositiveFloat = 1.0
    """Sampling temperature (paper, section 2.2: 1.0)."""
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Smallest share of probability that is sampled from; 1: all."""
    top_k: PositiveInt | None = None
    """Most tokens that are sampled from, the likeliest; null: all."""
    min_p: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Least probability of a token that is sampled from, as a share of the likeliest one's."""

    @property
    def distribution(self) -> "DistributionConfig":
        """These four alone."""
        return DistributionConfig(**self.model_dump(include=set(DistributionConfig.model_fields)))

    @property
    def is_cut(self) -> bool:
        """Whether some tokens are not drawn from, though they have a probability."""
        return self.top_p < 1 or self.top_k is not None or self.min_p > 0


WHOLE = DistributionConfig()
"""What a model says by itself: every token, at temperature 1."""


class SamplingConfig(DistributionConfig):
    """How tokens are drawn."""

    repetition_penalty: PositiveFloat = 1.0
    """Divides positive logits of tokens that stand in the prompt or the answer so far, and
    multiplies negative ones; 1: none."""
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Texts that end an answer, which keeps them. No probability changes by them."""


class EngineConfig(StrictModel):
    """The engines that answer."""

    workers: PositiveInt = 1
    """Rollout actors, each with one vLLM engine."""
    max_workers: PositiveInt | None = None
    """Most rollout actors: as nodes join during a run, actors are added with the current weights,
    and when one leaves the run goes on without its actors; null: as many as workers, always."""
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
    """Share of a GPU's memory that an engine may take; with sync.shared_gpu at most 0.8, and 0.6
    where engines stay awake."""
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
    """Times that dead engines are started again before the run ends, all of them together; what a
    lost node took along is not counted."""
    health_timeout_s: PositiveFloat = 60.0
    """Seconds without a sign of life after which an engine, a reward worker, the reference or the
    teacher counts as stuck and is replaced."""
    timeout_s: PositiveFloat = 7200.0
    """Seconds that a problem may take from being asked to the last of its scores, the wait for a
    free engine included; the run ends behind them."""

    @property
    def tells_experts(self) -> bool:
        """Whether engines tell which experts each token went to."""
        return False

    @model_validator(mode="after")
    def _more_workers_are_more(self) -> Self:
        if self.max_workers is not None and self.max_workers < self.workers:
            raise ValueError(
                f"max_workers={self.max_workers} is less than workers={self.workers}, which a run "
                "starts with; raise it, or lower workers"
            )
        return self


class DynamicSamplingConfig(StrictModel):
    """Other problems for those whose answers teach nothing, since all have the same reward or were
    cut off under loss.mask_overlong (DAPO, arXiv:2503.14476, sec. 3.2)."""

    max_extra: PositiveFloat = 2.0
    """Most further problems of a step, as a multiple of problems_per_step; behind them the step
    learns from what it has."""

    def check_asks(self, problems_per_step: int) -> None:
        """Raise ValueError if no further problem would ever be asked."""
        if round(self.max_extra * problems_per_step) < 1:
            raise ValueError(
                f"rollout.dynamic_sampling.max_extra={self.max_extra:g} with problems_per_step="
                f"{problems_per_step} comes to no further problem; set max_extra to "
                f"{1 / problems_per_step:.2g} or more, or remove dynamic_sampling"
            )


class RolloutConfig(EngineConfig, SamplingConfig):
    """The engines that answer, and how."""

    group_size: Annotated[int, Field(ge=2)] = 8
    """Answers to each problem (paper, section 2.2: 8)."""
    dynamic_sampling: DynamicSamplingConfig | None = None
    """Ask as many further problems as have answers that teach nothing; {} for all defaults; null:
    such problems are left out of the update, which is smaller then."""
    routing_replay: bool = False
    """Mixtures of experts: the learner sends each token to the experts that the engine sent it to,
    and only weighs them itself (R3, arXiv:2510.11370)."""

    stragglers: Literal["wait", "drop"] = "wait"
    """With max_staleness above 0, what becomes of problems whose answers take longer than others':
    the learner waits for them, or takes those that are answered first, and answers that would be
    older than max_staleness are dropped and their problem asked again, once."""

    @property
    def tells_experts(self) -> bool:
        """Whether engines tell which experts each token went to."""
        return self.routing_replay

    @model_validator(mode="after")
    def _choices_are_kept_for_prompts_that_are_known(self) -> Self:
        if self.routing_replay and self.engine_args.get("enable_prefix_caching") is False:
            raise ValueError(
                "rollout.routing_replay=true with engine_args.enable_prefix_caching=false: vLLM "
                "keeps the experts of tokens beside its cache of prefixes, and tells none without; "
                "leave enable_prefix_caching out"
            )
        return self

    @model_validator(mode="after")
    def _the_learner_knows_what_is_drawn_from(self) -> Self:
        if self.repetition_penalty != 1:
            raise ValueError(
                f"rollout.repetition_penalty={self.repetition_penalty:g}: the probability of each "
                "token then hangs on all tokens before it, and the learner does not rebuild that, "
                "so its ratios would be wrong; leave it at 1, and give the repetition reward, "
                "which is 1 where nothing repeats, a weight (reward.weights: {repetition: 0.1}). "
                "evaluation.sampling may set it"
            )
        if self.top_k == 1:
            raise ValueError(
                "rollout.top_k=1: all answers of a group would be the same, and nothing is "
                "learned; raise it, or leave it null"
            )
        return self


class SyncConfig(StrictModel):
    """How new weights reach the engines."""

    transport: Literal["auto", "nccl", "ipc", "gloo"] = "auto"
    """auto: gloo on CPU, ipc where learner and engines share GPUs, nccl otherwise."""
    shared_gpu: bool = False
    """Learner ranks and engines sit on the same GPUs, each engine with tensor_parallel_size ranks
    on one node."""
    sleep: bool | None = None
    """Engines that share GPUs give their memory back while the learner learns, all but weights that
    do not, which are kept on the host; null: wherever they may, which is with max_staleness=0."""
    offload_optimizer: bool = False
    """While engines that sleep in turn with the learner are awake, AdamW's moments wait on the
    host, and come back for each update: 8 bytes a weight that learns, over the ranks.
    learner.offload keeps them there for good."""
    timeout_s: PositiveFloat = 900.0
    """Seconds that weights may be on their way, read-back included, the wait for an update that is
    under way not; the run ends behind them. An engine that dies meanwhile is noticed in seconds and
    replaced."""
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
