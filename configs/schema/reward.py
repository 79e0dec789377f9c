"""The reward section of a recipe."""

from typing import Annotated, Any, Self

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from configs.schema.base import StrictModel
from configs.schema.endpoint import EndpointConfig

PRESETS: dict[str, dict[str, float]] = {
    "R1": {"math": 1.0, "format": 1.0},
    "R1V3": {"math": 0.8, "format": 0.2},
}
"""Weights that the literature used: DeepSeek-R1 (arXiv:2501.12948, section 2.2.2: accuracy plus
format) and Skywork-R1V3 (arXiv:2507.06167: 0.8 accuracy + 0.2 format)."""


def _preset_by_name(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value not in PRESETS:
        raise ValueError(
            f"weights={value!r} is no preset; name one of {', '.join(PRESETS)}, "
            "or give a weight for each reward, as in {math: 0.9, format: 0.1}"
        )
    return PRESETS[value]


class ThinkingConfig(StrictModel):
    """The template that an answer keeps: thoughts in tags, then the answer."""

    open_tag: str = "<think>"
    """Starts the thoughts; text or a special token, which rewards see as text too."""
    close_tag: str = "</think>"
    """Ends the thoughts; the final answer is looked for after it."""
    prompt_opens: bool | None = None
    """The prompt ends with the open tag, so that the answer starts inside the thoughts; null: as
    the policy's chat template has it."""
    allow_empty: bool = False
    """Tags with nothing between them keep the format."""


class MathConfig(StrictModel):
    """The `math` reward."""

    decimals: NonNegativeInt = 6
    """Decimal places that must agree where either side is a decimal fraction."""
    max_chars: PositiveInt = 600
    """Final answers longer than this are unparsable, and not looked at further."""
    max_depth: PositiveInt = 24
    """Final answers with brackets nested deeper than this are unparsable."""
    max_digits: PositiveInt = 20_000
    """Final answers whose value would take more digits than this are unparsable."""


class JudgeConfig(EndpointConfig):
    """The `judge` reward: a language model asked whether answer and gold agree."""

    model: str
    """The judge's name at that server."""
    second_opinion_on: tuple[str, ...] = ()
    """Rewards whose `wrong` or `unparsable` verdict the judge may overturn (R1V3: math)."""
    cache: str | None = None
    """File that keeps the judge's replies from run to run; null: kept in memory only."""


class RewardConfig(StrictModel):
    """Rule-based rewards and the pool that runs them."""

    weights: Annotated[dict[str, NonNegativeFloat], BeforeValidator(_preset_by_name)] = Field(
        default={"math": 0.9, "format": 0.1}, min_length=1
    )
    """Weight of each reward by its name, or the name of a preset (R1, R1V3); an answer's reward is
    the weighted sum of its scores. A reward of weight 0 is logged and counts for nothing."""
    accuracy: str = "math"
    """The reward whose mean score is called accuracy in logs and evaluations."""
    custom: dict[str, str] = Field(default={})
    """Rewards of your own: a name for the weights, and `module:function` or `file.py:function`."""
    thinking: ThinkingConfig = ThinkingConfig()
    math: MathConfig = MathConfig()
    absolute_tolerance: NonNegativeFloat = 1e-6
    """`numeric`: largest gap of answer and gold; for golds below 1, as a share of the gold."""
    relative_tolerance: NonNegativeFloat = 1e-4
    """`numeric`: largest gap of answer and gold as a share of the gold."""
    overlong_tokens: PositiveInt = 1024
    """`length`: tokens before the limit over which the score falls from 1 to 0 (DAPO's cache);
    at most rollout.max_new_tokens where it counts."""
    repetition_ngram: PositiveInt = 20
    """`repetition`: words of an n-gram."""
    judge: JudgeConfig | None = None
    """The judge, for the `judge` reward or for second opinions; null: none."""
    workers: PositiveInt = 1
    """Reward actors."""
    processes: PositiveInt = 1
    """Verifier processes of one reward actor."""
    restarts: NonNegativeInt = 3
    """Times that dead reward actors are started again before the run ends, all of them together;
    what a lost node took along is not counted."""
    deadline_s: PositiveFloat = 2.0
    """Seconds of CPU time that one answer may take before its verifier is killed (four times as
    many by the clock), and seconds by the clock for a reward of your own."""
    memory_mib: PositiveInt = 1024
    """Memory that a verifier process may take beyond what it starts with, MiB."""
    max_unscored_share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.1
    """The run stops when verdicts that say nothing of the policy pass this share of its answers."""

    @model_validator(mode="after")
    def _accuracy_is_a_reward(self) -> Self:
        if self.accuracy not in self.weights:
            raise ValueError(
                f"accuracy={self.accuracy!r} is none of the weights {', '.join(self.weights)}; "
                "name one of them, or give it a weight of 0"
            )
        return self

    @model_validator(mode="after")
    def _judge_is_there(self) -> Self:
        if self.judge is None and "judge" in self.weights:
            raise ValueError(
                "weights name the judge, and there is no judge section: "
                "set judge.endpoint and judge.model"
            )
        return self

    def check_length(self, longest: int) -> None:
        """Raise ValueError if `length` counts, and answers of at most `longest` tokens all lose by
        each of their tokens."""
        if self.weights.get("length", 0) > 0 and self.overlong_tokens > longest:
            raise ValueError(
                f"reward.overlong_tokens={self.overlong_tokens} with rollout.max_new_tokens="
                f"{longest} and a weight for length: its score then falls with every token from "
                "the first, so answers of equal merit differ in reward, no group is flat, and the "
                "policy learns to be short; set reward.overlong_tokens to a part of max_new_tokens,"
                f" such as {max(1, longest // 4)}"
            )

    @property
    def counting(self) -> tuple[str, ...]:
        """Names of the rewards whose weight is not 0."""
        return tuple(name for name, weight in self.weights.items() if weight > 0)
