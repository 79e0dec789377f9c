"""The schema of a GRPO recipe. One field, one docstring; derived values are properties.

Every value is named once. Numbers from the paper are cited where they are defaults.
"""

from typing import Literal, Self

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from configs.schema.base import StrictModel
from configs.schema.buffer import SampleBufferConfig
from configs.schema.data import EvaluationConfig, PromptConfig, TrainingDataConfig
from configs.schema.features import FeaturesConfig
from configs.schema.learner import GRPOLearnerConfig
from configs.schema.loss import LossConfig
from configs.schema.policy import PolicyConfig, ReferenceConfig
from configs.schema.reward import RewardConfig
from configs.schema.rollout import RolloutConfig, SyncConfig
from configs.schema.run import ClusterConfig, GRPOCheckpointConfig, GRPOLogConfig, TrainingRecipe
from configs.schema.start import StartConfig
from configs.schema.teacher import FrozenTeacherConfig

_BESIDE_A_LEARNER = 0.6
"""Most of a GPU's memory that an engine may take while a learner rank learns on it."""
_BESIDE_A_RESTING_LEARNER = 0.8
"""The same where engines sleep while the learner learns: what it needs then comes free."""


class PreflightConfig(StrictModel):
    """Checks before step 1."""

    problems: PositiveInt = 4
    """Problems whose prompts and logprobs are compared between engine and learner."""
    max_logprob_gap: PositiveFloat = 0.05
    """Largest mean absolute gap of sampler and learner logprobs, nats."""


class GRPORecipe(TrainingRecipe):
    """One run of GRPO."""

    steps: PositiveInt = 200
    """Steps: batches of answers that the policy learns from."""
    problems_per_step: PositiveInt = 32
    """Problems asked for each step."""
    max_staleness: NonNegativeInt = 0
    """Versions that an answer's policy may lag behind the learner; 0: exactly on-policy."""
    data: TrainingDataConfig
    """Problems to learn from."""
    policy: PolicyConfig = PolicyConfig()
    prompt: PromptConfig = PromptConfig()
    rollout: RolloutConfig = RolloutConfig()
    reward: RewardConfig = RewardConfig()
    loss: LossConfig = LossConfig()
    reference: ReferenceConfig = ReferenceConfig()
    teacher: FrozenTeacherConfig | None = None
    """Whose probabilities loss.kind=distill and mixed learn; null with loss.kind=grpo."""
    sample_buffer: SampleBufferConfig | None = None
    """Answers of earlier steps for those of a step that teach nothing; null: they are left out."""
    learner: GRPOLearnerConfig = GRPOLearnerConfig()
    features: FeaturesConfig = FeaturesConfig()
    sync: SyncConfig = SyncConfig()
    preflight: PreflightConfig = PreflightConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    cluster: ClusterConfig = ClusterConfig()
    # Sections are frozen, so narrower ones are safe.
    log: GRPOLogConfig = GRPOLogConfig()  # pyright: ignore[reportIncompatibleVariableOverride]
    checkpoint: GRPOCheckpointConfig = (  # pyright: ignore[reportIncompatibleVariableOverride]
        GRPOCheckpointConfig()
    )
    start: StartConfig | None = None
    """How to make a start policy when `policy.path` is empty; null: it must be set."""

    @property
    def reference_in(self) -> Literal["actor", "base", "shards"] | None:
        """Where the reference is, resolved: an actor, the learner with what learns as it began, or
        a copy sharded over the learner's ranks; None: nobody asks for it."""
        if self.loss.kl.coef == 0:
            return None
        small = self.policy.small_part_learns
        if self.reference.place == "actor" or (
            self.reference.place == "auto" and (self.loss.kl.in_reward or not small)
        ):
            return "actor"
        return "base" if small else "shards"

    @property
    def engines_sleep(self) -> bool:
        """Whether engines on the learner's GPUs sleep while it learns, resolved."""
        if self.sync.sleep is not None:
            return self.sync.sleep
        return self.sync.shared_gpu and self.max_staleness == 0

    @model_validator(mode="after")
    def _kept_features_come_from_a_frozen_tower(self) -> Self:
        self.features.check_frozen(self.policy.train)
        return self

    @model_validator(mode="after")
    def _a_reward_is_known_before_the_learner_reads(self) -> Self:
        if self.loss.kl.in_reward and self.reference.place == "learner":
            raise ValueError(
                "loss.kl.place=reward with reference.place=learner: the learner reads answers when "
                "their rewards are known already; set reference.place=actor"
            )
        return self

    @model_validator(mode="after")
    def _only_a_copy_beside_the_learner_leaves_its_gpu(self) -> Self:
        if self.reference.offload and self.reference_in != "shards":
            where = {
                "actor": "it has a GPU of its own",
                "base": "it is the learner's own weights, with what learns as it began",
                None: "loss.kl.coef=0 starts none",
            }[self.reference_in]
            raise ValueError(
                f"reference.offload=true with reference.place={self.reference.place}: {where}; set "
                "reference.place=learner, where tower or language model learn, or offload to false"
            )
        return self

    @model_validator(mode="after")
    def _policy_has_a_source(self) -> Self:
        if self.policy.path:
            return self
        if self.start is None:
            raise ValueError(
                "policy.path is empty and there is no start section: name a checkpoint "
                "folder or hub name in policy.path"
            )
        for data in self.data.sources.values():
            if data.source not in self.start.sources:
                raise ValueError(
                    f"policy.path is empty, and the start section makes policies for "
                    f"{', '.join(self.start.sources)} only, not data.source={data.source!r}: "
                    "name a checkpoint in policy.path"
                )
        return self

    @model_validator(mode="after")
    def _a_teacher_is_there_where_it_teaches(self) -> Self:
        teacher = self.teacher
        if self.loss.has_teacher != (teacher is not None):
            raise ValueError(
                f"loss.kind={self.loss.kind} {'without' if teacher is None else 'with'} a teacher "
                "section: distill and mixed need one, and grpo reads none; set teacher.path, or "
                "set loss.kind to distill or mixed"
            )
        if teacher is None:
            return self
        if self.sample_buffer is not None:
            raise ValueError(
                f"sample_buffer with loss.kind={self.loss.kind}: a teacher says something of each "
                "answer, so there is no place for earlier ones; remove the section"
            )
        columns = [set(data.reward_columns) for data in self.data.sources.values()]
        known = {"question", "answer", *set.intersection(*columns)}
        if unknown := teacher.context_fields - known:
            raise ValueError(
                f"teacher.context names {sorted(unknown)}, and knows {sorted(known)} only: correct "
                "it, or add the column to data.reward_columns"
            )
        return self

    @model_validator(mode="after")
    def _something_corrects_for_older_answers(self) -> Self:
        if self.loss.old_policy != "learner" or self.loss.importance is not None:
            return self
        if self.max_staleness or self.sample_buffer is not None:
            older = "sample_buffer" if self.sample_buffer else f"max_staleness={self.max_staleness}"
            raise ValueError(
                f"loss.old_policy=learner with {older} and without loss.importance: nothing would "
                "correct for answers of an older policy; add loss.importance, or set "
                "old_policy=sampler"
            )
        return self

    @model_validator(mode="after")
    def _each_update_has_a_group(self) -> Self:
        if self.learner.minibatches > self.problems_per_step:
            raise ValueError(
                f"learner.minibatches={self.learner.minibatches} with problems_per_step="
                f"{self.problems_per_step}: a group goes to one update as a whole, so there are at "
                "most as many updates as problems; lower minibatches"
            )
        return self

    @model_validator(mode="after")
    def _profiled_step_comes(self) -> Self:
        if self.learner.profile:
            self.learner.profile.check_comes(self.steps * self.learner.updates_per_step)
        return self

    @model_validator(mode="after")
    def _flat_groups_are_filled_up_in_one_way(self) -> Self:
        if self.rollout.dynamic_sampling is None:
            return self
        self.rollout.dynamic_sampling.check_asks(self.problems_per_step)
        if self.sample_buffer is not None:
            raise ValueError(
                "rollout.dynamic_sampling with a sample_buffer section: new problems, or answers "
                "of earlier steps, take the places of answers that teach nothing; remove one of "
                "the two"
            )
        if reason := self.loss.equal_rewards_teach:
            raise ValueError(f"rollout.dynamic_sampling with {reason}")
        return self

    @model_validator(mode="after")
    def _some_length_costs_nothing(self) -> Self:
        self.reward.check_length(self.rollout.max_new_tokens)
        return self

    @model_validator(mode="after")
    def _longest_answer_fits_the_learner(self) -> Self:
        longest = self.prompt.max_tokens + self.rollout.max_new_tokens - 1
        if longest > self.learner.max_tokens_per_microbatch:
            raise ValueError(
                f"prompt.max_tokens={self.prompt.max_tokens} and rollout.max_new_tokens="
                f"{self.rollout.max_new_tokens} allow rows of {longest} tokens, more than "
                f"learner.max_tokens_per_microbatch={self.learner.max_tokens_per_microbatch}; "
                "raise it, or lower one of the two"
            )
        return self

    @model_validator(mode="after")
    def _ranks_share_gpus_with_engines(self) -> Self:
        rollout, ranks = self.rollout, self.learner.ranks
        if not self.sync.shared_gpu:
            return self
        if rollout.max_workers is not None:
            raise ValueError(
                f"sync.shared_gpu=true with rollout.max_workers={rollout.max_workers}: each engine "
                "sits beside a learner rank, so none can be added; set max_workers to null"
            )
        width = rollout.tensor_parallel_size
        if ranks % width:
            raise ValueError(
                f"sync.shared_gpu=true with rollout.tensor_parallel_size={width} and learner.ranks="
                f"{ranks}: an engine takes the GPUs of {width} ranks, so that a rank would be left "
                f"without one; set learner.ranks={ranks + -ranks % width}, or tensor_parallel_size "
                "to a divisor of the ranks"
            )
        if rollout.workers * width != ranks:
            raise ValueError(
                f"sync.shared_gpu=true with rollout.workers={rollout.workers} of {width} GPU(s) "
                f"and learner.ranks={ranks}: each GPU has a rank and a device of an engine; set "
                f"rollout.workers={ranks // width}"
            )
        most = _BESIDE_A_RESTING_LEARNER if self.engines_sleep else _BESIDE_A_LEARNER
        if rollout.gpu_memory_utilization > most:
            awake = "" if self.engines_sleep else " while engines stay awake"
            raise ValueError(
                f"sync.shared_gpu=true with rollout.gpu_memory_utilization="
                f"{rollout.gpu_memory_utilization:g} leaves the learner too little of its GPU"
                f"{awake}; set gpu_memory_utilization to {most:g} or less"
            )
        return self

    @model_validator(mode="after")
    def _stragglers_are_dropped_where_answers_may_be_late(self) -> Self:
        if self.rollout.stragglers == "drop" and self.max_staleness == 0:
            raise ValueError(
                "rollout.stragglers=drop with max_staleness=0: each step then learns from all "
                "problems that it asked, so it waits for them; raise max_staleness, or set "
                "stragglers=wait"
            )
        return self

    @model_validator(mode="after")
    def _nobody_waits_for_an_engine_that_sleeps(self) -> Self:
        if not self.sync.sleep:
            return self
        if not self.sync.shared_gpu:
            raise ValueError(
                "sync.sleep=true with sync.shared_gpu=false: an engine on a GPU of its own has "
                "nobody to give its memory to; set shared_gpu=true, or leave sleep out"
            )
        if self.max_staleness:
            raise ValueError(
                f"sync.sleep=true with max_staleness={self.max_staleness}: engines then answer "
                "while the learner learns, so they stay awake; set max_staleness=0 or sleep=false"
            )
        return self
