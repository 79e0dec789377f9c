"""Recipe sections: the policy, which model and what of it learns, and the frozen reference."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from configs.schema.base import StrictModel

Part = Literal["vision", "projector", "language"]


class LoraConfig(StrictModel):
    """Low-rank adapters that learn in place of the language model's own weights."""

    rank: PositiveInt = 32
    """Rank of each adapter."""
    alpha: PositiveInt = 64
    """Adapters count alpha / rank times."""
    targets: tuple[str, ...] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )
    """Last names of the linear layers that get one; there is no dropout, as engines know none."""


class ModelConfig(StrictModel):
    """A checkpoint, and how it is read."""

    path: Annotated[str, Field(min_length=1)]
    """Folder or hub name of a transformers checkpoint."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Precision of all that holds the model."""
    trust_remote_code: bool = False
    """Run Python code that the checkpoint's folder brings."""


class PolicyConfig(ModelConfig):
    """The model that learns."""

    path: str = ""
    """Folder or hub name of a transformers checkpoint; empty: `start` makes one."""
    train: tuple[Part, ...] = ("vision", "projector", "language")
    """Parts that learn; the others stay frozen."""
    vision_attention: Literal["sdpa", "eager", "flash_attention_2", "flash_attention_3"] = "sdpa"
    """The vision tower's attention in the learner, by transformers' name; FlashAttention has to be
    installed. The language model attends by spans of packed rows, in SDPA's kernels."""
    lora: LoraConfig | None = None
    """Let `language` learn by adapters, merged for engines and exports; null: all its weights."""

    @property
    def small_part_learns(self) -> bool:
        """Whether only a projector or adapters learn, of which a copy is cheap."""
        whole = {"vision"} if self.lora is not None else {"vision", "language"}
        return not whole & set(self.train)

    @model_validator(mode="after")
    def _adapters_learn(self) -> Self:
        if self.lora is not None and "language" not in self.train:
            raise ValueError(
                f"lora is set, but train={list(self.train)} leaves the language model frozen; add "
                "language to train, or set lora to null"
            )
        return self


class ReferenceConfig(StrictModel):
    """The frozen start policy, which is there where loss.kl.coef is not 0."""

    place: Literal["auto", "actor", "learner"] = "auto"
    """actor: a process with one device, which reads groups while others are being written; learner:
    the learner ranks, as their own weights with what learns as it began where only projector or
    adapters learn, else as a copy that ZeRO 3 shards over them. auto: learner in the former case,
    actor otherwise, and where loss.kl.place=reward."""
    offload: bool = False
    """The copy on the learner ranks lies in host memory, and a layer at a time comes to the GPU
    when it is read."""
    restarts: NonNegativeInt = 3
    """Times that a dead actor is started again before the run ends; what a lost node took along is
    not counted."""
