"""What every recipe has: a name, a seed, a log; and what every training recipe has beside these."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator

from configs.schema.base import StrictModel

Device = Literal["cpu", "cuda"]
Role = Literal["learner", "rollout", "reward", "reference", "teacher"]
"""What an actor of a run does."""
_COUNTED = frozenset({"CPU", "GPU", "memory", "object_store_memory"})
"""Ray resources that other keys ask for, or that Ray counts by itself."""
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class LogConfig(StrictModel):
    """Where a run leaves its traces."""

    folder: Path = Path("runs")
    """Runs lie in folders of their names below this one."""
    wandb: bool = True
    """Log to Weights & Biases; offline where no key is set."""
    samples_per_step: PositiveInt | None = None
    """Answers written to samples.jsonl each step; null: all."""


class TrainingLogConfig(LogConfig):
    """Where a run leaves its traces."""

    report: bool = True
    """Write report.html at each step, with curves and samples for a browser; needs as much room as
    samples.jsonl."""
    wandb_samples: NonNegativeInt = 8
    """Of the samples of each step, the first so many go to Weights & Biases as a table with images,
    where log.wandb is on."""


class GRPOLogConfig(TrainingLogConfig):
    """Where a run leaves its traces."""

    critical_words: tuple[Annotated[str, Field(min_length=1)], ...] = (
        "Wait",
        "Alternatively",
        "Hmm",
    )
    """Words with which a move of reasoning begins, in either case: the entropy where they stand is
    logged as critical_entropy (R1V3 names the first two, its NoWait mode all three)."""
    tokens_per_step: NonNegativeInt | None = 50_000
    """Tokens of each step that samples.jsonl tells one by one, with text, logprob, the learner's
    gap and entropy: of whole answers, in order, about 35 bytes a token; null: of all."""


class SFTLogConfig(TrainingLogConfig):
    """Where a run leaves its traces."""

    samples_per_step: PositiveInt | None = 1
    """Chats of the first rank written to samples.jsonl each step with their loss; null: all."""


class CheckpointConfig(StrictModel):
    """What is kept on disk."""

    every: PositiveInt = 20
    """Steps between checkpoints."""
    keep: PositiveInt = 2
    """Newest checkpoints kept."""


class GRPOCheckpointConfig(CheckpointConfig):
    """What is kept on disk."""

    keep_best: Literal["accuracy", "critical_entropy"] | None = "accuracy"
    """The best policy, kept beside the newest: by held-out accuracy, saved as it is found, where
    there is evaluation.data; or, of the checkpoints, by the mean entropy at critical tokens since
    the one before (Skywork R1V3, arXiv:2507.06167); null: the newest alone."""


class MachineConfig(StrictModel):
    """The machine that a recipe is written for, which rl/plan.py holds it to. On a cluster, nodes,
    GPUs, cores and host memory are those that Ray tells of."""

    nodes: PositiveInt = 1
    """Nodes, all alike."""
    gpus_per_node: PositiveInt | None = None
    """GPUs of each; null: nothing is said of the machine, and no placement is held to it."""
    cpus_per_node: PositiveInt | None = None
    """Cores of each; null: enough."""
    memory_per_node_gib: PositiveFloat | None = None
    """Host memory of each, GiB; null: on a cluster what Ray tells, else enough."""
    gpu_memory_gib: PositiveFloat | None = None
    """Memory of a GPU, GiB, which estimates are compared with; null: of this machine's, if it has
    any (H100: 79)."""
    autoscaled: bool = False
    """An autoscaler brings nodes up to these, and a run waits for them; of a cluster that `ray up`
    started, its own file says so on the head."""
    resources: dict[Role, dict[str, PositiveFloat]] = Field(default={})
    """Ray resources that each actor of a role takes beside GPUs and cores, so that it sits on nodes
    that were given them: {learner: {on_demand: 1}, rollout: {spot: 1}}."""

    @field_validator("resources")
    @classmethod
    def _beside(cls, value: dict[Role, dict[str, float]]) -> dict[Role, dict[str, float]]:
        for role, resources in value.items():
            if taken := sorted(_COUNTED & set(resources)):
                raise ValueError(
                    f"{role}: {', '.join(taken)} cannot be asked for here; GPUs and cores have "
                    "keys in the sections of learner, rollout and reward. Name a resource of your "
                    "own that the nodes were given"
                )
        return value


class ClusterConfig(MachineConfig):
    """The machine that a recipe is written for, and how a run deals with the cluster."""

    reserve_timeout_s: PositiveFloat = 1800.0
    """Seconds that seats may take to be reserved: others hold them, or an autoscaler still brings
    nodes. What is missing is told meanwhile."""


class RunRecipe(StrictModel):
    """A run with a folder of its own."""

    name: str
    """The run's name, and its folder's."""
    seed: NonNegativeInt = 0
    """Orders the data and draws what is drawn."""
    log: LogConfig = LogConfig()

    @property
    def run_folder(self) -> Path:
        """Where this run's log, samples, checkpoints and results lie."""
        return self.log.folder / self.name


class TrainingRecipe(RunRecipe):
    """A run that trains a policy."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: cuda where the cluster has GPUs."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    # Sections are frozen, so a narrower one is safe.
    log: TrainingLogConfig = TrainingLogConfig()  # pyright: ignore[reportIncompatibleVariableOverride]
