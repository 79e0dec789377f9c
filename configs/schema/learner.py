"""Recipe sections: learner ranks and their optimizer."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from configs.schema.base import StrictModel
from configs.schema.run import Fraction

_DECIDED = {
    "stage": "zero_stage",
    "offload_optimizer": "offload",
    "cpu_offload": "offload",
    "cpu_offload_use_pin_memory": "offload",
    "zenflow": "offload",
}
"""Settings of DeepSpeed's zero_optimization, and the keys that decide them."""
_UNTRIED = (
    "cpu_offload_param",
    "zero_hpz_partition_size",
    "zero_quantized_weights",
    "zero_quantized_nontrainable_weights",
)
"""Those that hold weights elsewhere, twice or in fewer bits."""

Schedule = Literal["constant", "constant_with_warmup", "cosine", "linear"]


def _own_warmup(known: dict[str, Any]) -> float:
    """The paper's share where a schedule warms up."""
    return 0.0 if known.get("schedule") == "constant" else 0.03


class OptimizerConfig(StrictModel):
    """AdamW and its schedule."""

    lr: PositiveFloat = 1e-6
    """Peak learning rate (paper, section 2.2: 1e-6)."""
    schedule: Schedule = "constant"
    """What the learning rate does, by transformers' names; all but constant warm up first."""
    warmup_ratio: Fraction = Field(default_factory=_own_warmup)
    """Share of the steps over which the learning rate rises (paper, section 2.1: 0.03); without a
    value 0 where schedule is constant and 0.03 elsewhere."""
    weight_decay: NonNegativeFloat = 0.05
    """AdamW's weight decay (paper, section 2.1: 0.05)."""
    betas: tuple[Fraction, Fraction] = (0.9, 0.95)
    """AdamW's betas."""
    max_grad_norm: PositiveFloat = 1.0
    """Gradients are scaled down to this global norm."""

    @model_validator(mode="after")
    def _constant_does_not_rise(self) -> Self:
        if self.schedule == "constant" and self.warmup_ratio > 0:
            raise ValueError(
                f"warmup_ratio={self.warmup_ratio:g} with schedule=constant, which begins at its "
                "full rate; set schedule=constant_with_warmup, or warmup_ratio=0"
            )
        return self


class ProfileConfig(StrictModel):
    """A trace by torch's profiler, written to traces/ in the run's folder."""

    step: PositiveInt
    """The learner's update that is traced; the first is 1, and steps without one do not count."""
    rank: NonNegativeInt = 0
    """The rank that traces."""

    def check_comes(self, updates: int | None) -> None:
        """Raise ValueError if a run of so many updates ends before; None: nobody knows yet."""
        if updates is not None and self.step > updates:
            raise ValueError(
                f"learner.profile.step={self.step} never comes in a run of {updates} updates; set "
                f"it to at most {updates}"
            )


class LearnerConfig(StrictModel):
    """The DeepSpeed ranks that train."""

    ranks: PositiveInt = 1
    """Learner actors, one device each."""
    cpus_per_rank: PositiveFloat = 1.0
    """CPU cores that Ray reserves for each rank; GRPO on a CPU machine reserves none. A rank on a
    GPU uses a few: its own, one that cuts the next images into tiles, DeepSpeed's."""
    zero_stage: Annotated[int, Field(ge=0, le=3)] = 2
    """ZeRO stage: 1 shards optimizer state, 2 gradients too, 3 weights too; 0 shards nothing, and
    sums the gradients of micro-batches in the policy's dtype, where the others take float32."""
    offload: bool = False
    """Keep optimizer state in host memory (ZeRO 2 and 3)."""
    zero_optimization: dict[str, Any] = Field(default={})
    """Further settings of DeepSpeed's section of this name, such as {reduce_bucket_size: 200000000,
    stage3_prefetch_bucket_size: 50000000}, for the learner and a reference that its ranks shard;
    {offload_param: {device: cpu}} keeps weights in host memory. What other keys decide is
    refused."""
    gradient_checkpointing: bool = True
    """Recompute activations in the backward pass."""
    max_tokens_per_microbatch: PositiveInt = 16_384
    """Padded tokens of one forward pass, which one rank makes, or those that share its rows."""
    sequence_parallel_size: PositiveInt = 1
    """Ranks that share each row, for rows that are too long for one GPU: each has an equal part of
    the tokens, and of the attention heads while it attends. Divides ranks and heads."""
    logprob_chunk: PositiveInt = 1024
    """Positions whose logits over the vocabulary exist at a time."""
    cpu_threads: PositiveInt | None = None
    """Threads of a rank on a CPU machine; null: its cores divided among all that compute at
    the same time. In GRPO the smallest models are fastest with 1."""
    max_skipped_in_a_row: PositiveInt = 3
    """The run ends after this many updates in a row with a loss or gradient that is not finite."""
    restarts: NonNegativeInt = 3
    """Times that a dead or stuck rank makes all of them start again, from the newest checkpoint."""
    timeout_s: PositiveFloat = 3600.0
    """Seconds that ranks may take for one piece of work, such as an update or a checkpoint, and
    wait for one another; behind them they count as stuck."""
    optimizer: OptimizerConfig = OptimizerConfig()
    profile: ProfileConfig | None = None
    """One update to trace; null: none."""
    peak_tflops: PositiveFloat | None = None
    """TFLOP/s that one device could do in the policy's precision, for the share that updates use
    of it (mfu); null: a known GPU's in bfloat16, and no mfu elsewhere."""

    @property
    def ranks_per_row(self) -> int:
        """Ranks that work on the same rows, each on a part of their tokens."""
        return self.sequence_parallel_size

    @model_validator(mode="after")
    def _ranks_are_whole_groups(self) -> Self:
        if self.ranks % self.sequence_parallel_size:
            raise ValueError(
                f"sequence_parallel_size={self.sequence_parallel_size} with ranks={self.ranks}: "
                "ranks share rows in groups of equal size; make ranks a multiple of it"
            )
        return self

    @model_validator(mode="after")
    def _offload_needs_shards(self) -> Self:
        if self.offload and self.zero_stage < 2:
            raise ValueError(
                f"offload=true with zero_stage={self.zero_stage}: DeepSpeed offloads sharded "
                "optimizer state only; set zero_stage to 2 or 3, or offload to false"
            )
        return self

    @model_validator(mode="after")
    def _weights_are_where_others_look_for_them(self) -> Self:
        """Plans count them, exports and engines gather them."""
        for name in self.zero_optimization:
            if name in _DECIDED:
                raise ValueError(
                    f"zero_optimization: {name} is decided by learner.{_DECIDED[name]}; leave it "
                    "out"
                )
            if name in _UNTRIED:
                raise ValueError(
                    f"zero_optimization: {name} holds weights in a way that no plan counts and no "
                    "test has tried; leave it out, or keep weights in host memory by "
                    "{offload_param: {device: cpu}}"
                )
        where = self.zero_optimization.get("offload_param")
        if where is not None and not self.offloads_weights:
            raise ValueError(
                f"zero_optimization: offload_param={where} with zero_stage={self.zero_stage} and "
                f"offload={str(self.offload).lower()}: weights lie in host memory with "
                "{device: cpu}, zero_stage=3 and offload=true; set these, or leave it out"
            )
        return self

    @property
    def offloads_weights(self) -> bool:
        """Whether the ranks' weights lie in host memory."""
        where = self.zero_optimization.get("offload_param")
        on_host = isinstance(where, dict) and where.get("device") == "cpu"  # pyright: ignore
        return on_host and self.zero_stage == 3 and self.offload

    @model_validator(mode="after")
    def _profiled_rank_is_there(self) -> Self:
        if self.profile is not None and self.profile.rank >= self.ranks:
            raise ValueError(
                f"profile.rank={self.profile.rank} with ranks={self.ranks}: ranks count from 0; "
                f"set it to at most {self.ranks - 1}"
            )
        return self


class GRPOLearnerConfig(LearnerConfig):
    """The DeepSpeed ranks that train."""

    minibatches: PositiveInt = 1
    """Updates that a step's groups are dealt to, one after another; a step in which fewer groups
    have something to teach makes as many updates as there are of these."""
    epochs: PositiveInt = 1
    """Times that a step's answers are learned from, in the same mini-batches each time."""

    @property
    def updates_per_step(self) -> int:
        """Updates of the policy that a step makes where enough groups teach something."""
        return self.minibatches * self.epochs


class SFTOptimizerConfig(OptimizerConfig):
    """AdamW and its schedule."""

    lr: PositiveFloat = 4e-5
    """Peak learning rate (paper, section 2.1: 4e-5 after the first pass)."""
    schedule: Schedule = "cosine"
    """What the learning rate does, by transformers' names; all but constant warm up first."""


class SFTLearnerConfig(LearnerConfig):
    """The DeepSpeed ranks that train: the workers of a Ray Train job."""

    packing: bool = True
    """Chats share rows, and rows a pass of max_tokens_per_microbatch; false: each goes alone."""
    # Sections are frozen, so a narrower one is safe.
    optimizer: SFTOptimizerConfig = SFTOptimizerConfig()  # pyright: ignore[reportIncompatibleVariableOverride]
