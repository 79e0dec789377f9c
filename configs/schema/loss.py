"""Recipe section: the GRPO loss."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    model_validator,
)

from configs.schema.base import StrictModel
from configs.schema.teacher import DistillationLossConfig

Aggregation = Literal["token_mean", "sequence_mean", "group_mean", "constant"]
_BOUNDS: dict[str, tuple[float | None, float | None]] = {
    "clip": (0.2, 0.2),
    "gspo": (3e-4, 4e-4),
    "rloo": (0.2, 0.2),
    "cispo": (None, 4.0),
    "sapo": (None, None),
    "dppo_tv": (0.15, 0.15),
    "dppo_kl": (0.05, 0.05),
}
"""Each policy loss's own clip_low and clip_high, as its paper has them."""
_OF_ANSWERS = ("gspo", "rloo")
"""Policy losses with one ratio for a whole answer."""
_SEQUENCE_MEAN = (*_OF_ANSWERS, "sapo")
"""Policy losses whose papers take the mean over answers."""
_OF_POLICY_LOSS = ("policy_loss", "clip_low", "clip_high", "old_policy", "importance")
"""What the policy loss alone reads."""
_ADVANTAGES = (
    "group_norm",
    "group_mean",
    "rloo",
    "reinforce_plus_plus",
    "reinforce_plus_plus_baseline",
)


def _known_or_own(known: Iterable[str]) -> AfterValidator:
    """One of `known`, or the name of a function of the user's own."""

    def check(name: str) -> str:
        if name not in known and ":" not in name:
            raise ValueError(
                f"is {name}, which is none of {', '.join(known)}; name one of them, or a function "
                "of your own as module:function or file.py:function"
            )
        return name

    return AfterValidator(check)


class KLConfig(StrictModel):
    """Divergence from the frozen start policy."""

    coef: NonNegativeFloat = 0.0
    """Weight of the KL term; 0: no reference policy is started (R1V3: none)."""
    estimator: Literal["k1", "k2", "k3"] = "k3"
    """k1 = log r, k2 = (log r)^2 / 2, k3 = 1/r - 1 + log r, with r = policy / reference."""
    place: Literal["loss", "reward"] = "loss"
    """loss: a term at each token; reward: an answer's reward is less by coef times the sum of its
    tokens' KL, as the policy that sampled had it, before advantages are taken."""

    weighted: bool = False
    """A token's KL is weighted by the ratio, through which the gradient goes too: with k3 it is
    then that of KL(policy || reference) (DeepSeek-V3.2, arXiv:2512.02556; TRL's default)."""

    @model_validator(mode="after")
    def _a_ratio_is_of_tokens(self) -> Self:
        if self.weighted and self.place == "reward":
            raise ValueError(
                "weighted=true with place=reward: a reward is given before there is a ratio; set "
                "one of the two back"
            )
        return self

    @property
    def in_reward(self) -> bool:
        """Whether rewards are less by the KL."""
        return self.coef > 0 and self.place == "reward"


class SAPOConfig(StrictModel):
    """SAPO's gates: the larger a temperature, the sooner the gradient fades as the ratio moves."""

    positive: PositiveFloat = 1.0
    """Temperature where the advantage is positive."""
    negative: PositiveFloat = 1.05
    """Temperature where it is not."""


class ImportanceConfig(StrictModel):
    """What the engine's probabilities of the sampled tokens differ from the learner's, corrected:
    the policy loss of a token is weighted by learner / engine, as both were before the step's first
    update (truncated importance sampling, Yao et al. 2025)."""

    level: Literal["token", "sequence"] = "token"
    """token: each its own weight; sequence: the product over the answer's tokens for all of its."""
    bound: Literal["truncate", "mask"] = "truncate"
    """truncate: weights are brought within low and high; mask: tokens of others are left out
    (IcePop: level token, low 0.5, high 5)."""
    low: NonNegativeFloat = 0.0
    """Least weight."""
    high: PositiveFloat = 2.0
    """Largest weight."""

    @model_validator(mode="after")
    def _low_is_low(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low={self.low:g} is not below high={self.high:g}")
        return self


def _bounds_of(policy_loss: str) -> tuple[float | None, float | None]:
    """A function of the user's own has none."""
    return _BOUNDS.get(policy_loss, (None, None))


def _own_bound(side: Literal[0, 1]) -> Any:
    """The default of a bound: that of the policy loss."""
    return Field(default_factory=lambda known: _bounds_of(known.get("policy_loss", "clip"))[side])


def _own_aggregation(known: dict[str, Any]) -> Aggregation:
    return "sequence_mean" if known.get("policy_loss") in _SEQUENCE_MEAN else "token_mean"


class LossConfig(StrictModel):
    """What an answer's tokens are learned by."""

    kind: Literal["grpo", "distill", "mixed"] = "grpo"
    """grpo: the policy loss on rewards; distill: the divergence from a teacher, on all answers;
    mixed: the sum of both."""
    policy_loss: Annotated[str, _known_or_own(_BOUNDS)] = "clip"
    """clip: PPO's clipped ratio (GRPO, DAPO); gspo, rloo: one ratio an answer, by mean or sum of
    its tokens' log-ratios; cispo: bounded weights on log pi; sapo: a smooth gate; dppo_tv, dppo_kl:
    tokens are left out by total variation or KL; module:function or file.py:function: your own
    (docs/algorithms.md)."""
    clip_low: PositiveFloat | None = _own_bound(0)
    """How far below 1 the ratio may lie; dppo: how far apart new and old may be, for bad answers.
    Default: clip 0.2 (R1V3's too), rloo 0.2, gspo 0.0003, cispo null, which is none, dppo_tv 0.15,
    dppo_kl 0.05."""
    clip_high: PositiveFloat | None = _own_bound(1)
    """How far above 1 the ratio may lie; dppo: how far apart, for good answers. Default: clip 0.2
    (R1V3's too; DAPO: 0.28), rloo 0.2, gspo 0.0004, cispo 4 (weights of at most 5, ScaleRL,
    arXiv:2510.13786), dppo_tv 0.15, dppo_kl 0.05."""
    sapo: SAPOConfig = SAPOConfig()
    aggregation: Aggregation = Field(default_factory=_own_aggregation)
    """The loss is a mean over all tokens of an update (DAPO), over answers of their tokens' mean
    (GRPO), over groups of their tokens' mean, or the sum divided by the answers asked for, flat
    groups' too, times rollout.max_new_tokens (constant, Dr. GRPO). Default: gspo, rloo, sapo
    sequence_mean, others token_mean."""
    old_policy: Literal["auto", "sampler", "learner"] = "auto"
    """Whose probabilities the ratio is taken against: sampler: as the engine reported them;
    learner: the learner's own before the step's first update, for which answers are read once more
    where an earlier update of the step comes before theirs. auto: learner with importance, sampler
    without."""
    importance: ImportanceConfig | None = None
    """Corrects what engine and learner differ in; null: the ratio to the engine's probabilities is
    all that does."""
    advantage: Annotated[str, _known_or_own(_ADVANTAGES)] = "group_norm"
    """group_norm: (r - mean) / std (GRPO); group_mean: r - mean (Dr. GRPO); rloo: r - mean of the
    others; reinforce_plus_plus: normalised over the step; reinforce_plus_plus_baseline: r - mean,
    normalised over the step; module:function or file.py:function: your own."""
    mask_overlong: bool = False
    """Answers that were cut off at rollout.max_new_tokens are not learned from (DAPO's overlong
    filtering); their rewards count for their siblings."""
    kl: KLConfig = KLConfig()
    distill: DistillationLossConfig = DistillationLossConfig()

    @property
    def has_teacher(self) -> bool:
        """Whether a teacher's probabilities enter."""
        return self.kind != "grpo"

    @property
    def has_policy_loss(self) -> bool:
        """Whether the policy loss enters: for rewards, or for a teacher's word on the sampled token
        alone."""
        return self.kind != "distill" or self.distill.top_k == 0

    @property
    def equal_rewards_teach(self) -> str | None:
        """The key by which groups of equal rewards teach something, too, with the reason and what
        to do where they should not; None: no key says so."""
        if self.advantage == "reinforce_plus_plus":
            return (
                "loss.advantage=reinforce_plus_plus: there groups of equal rewards teach "
                "something, too; remove it, or take another advantage"
            )
        if self.kl.in_reward:
            return (
                "loss.kl.place=reward: answers of equal rewards differ in their KL, so that no "
                "group would ever be flat; remove it, or set loss.kl.place=loss"
            )
        if self.has_teacher:
            return (
                f"loss.kind={self.kind}: a teacher says something of each answer, whatever its "
                "reward; remove it"
            )
        return None

    @property
    def own_functions(self) -> dict[str, str]:
        """The user's own functions by the keys that name them."""
        named = {"loss.policy_loss": self.policy_loss, "loss.advantage": self.advantage}
        return {key: where for key, where in named.items() if ":" in where}

    @property
    def ratio_to_learner(self) -> bool:
        """Whether the ratio is taken against the learner before the step's first update."""
        return self.old_policy == "learner" or self.importance is not None

    def _changed(self, keys: Iterable[str]) -> str:
        """Those of the keys that are not as without a word, with their values; empty: none."""
        plain = LossConfig()
        values = {key: getattr(self, key) for key in keys}
        return ", ".join(f"{k}={v}" for k, v in values.items() if v != getattr(plain, k))

    @model_validator(mode="after")
    def _engine_and_learner_are_corrected_once(self) -> Self:
        if self.importance is not None and self.old_policy == "sampler":
            raise ValueError(
                "importance with old_policy=sampler: a ratio to the sampler corrects already what "
                "importance would; set old_policy=learner, or remove importance"
            )
        return self

    @model_validator(mode="after")
    def _the_policy_loss_reads_its_own_keys(self) -> Self:
        name, own = self.policy_loss, _bounds_of(self.policy_loss)
        for key, given, needed in zip(
            ("clip_low", "clip_high"), (self.clip_low, self.clip_high), own, strict=True
        ):
            if own == (None, None) and given is not None:
                raise ValueError(
                    f"{key}={given:g} with policy_loss={name}, which has no bounds: remove it or "
                    "set it to null"
                )
            if needed is not None and given is None:
                raise ValueError(
                    f"{key}=null with policy_loss={name}, which needs that bound; its own is "
                    f"{needed:g}"
                )
        if name != "sapo" and self.sapo != SAPOConfig():
            raise ValueError(
                f"sapo is set, and policy_loss={name} does not read it: set policy_loss=sapo, or "
                "remove the section"
            )
        if name.startswith("dppo_") and self.ratio_to_learner:
            raise ValueError(
                f"policy_loss={name} with old_policy=learner or importance: it leaves out tokens "
                "that are far from the sampler's probability, and against the learner's own a "
                "step's first update would leave out none; set old_policy=sampler, and remove "
                "importance"
            )
        if name in _OF_ANSWERS and self.aggregation != "sequence_mean":
            raise ValueError(
                f"policy_loss={name} with aggregation={self.aggregation}: its ratio is one number "
                "for a whole answer, and so is its loss; set aggregation=sequence_mean"
            )
        return self

    @model_validator(mode="after")
    def _a_teacher_and_rewards_do_not_get_in_each_others_way(self) -> Self:
        if self.kind == "grpo":
            return self
        if not self.has_policy_loss and (own := self._changed(_OF_POLICY_LOSS)):
            raise ValueError(
                f"{own} with kind=distill and distill.top_k="
                f"{'null' if self.distill.top_k is None else self.distill.top_k}: no policy loss "
                "enters there; leave it out, or set kind=mixed"
            )
        if self.kind == "distill" and (own := self._changed(("advantage",))):
            raise ValueError(
                f"{own} with kind=distill: rewards do not enter there; leave it out, or set "
                "kind=mixed"
            )
        if self.policy_loss in _OF_ANSWERS:
            raise ValueError(
                f"policy_loss={self.policy_loss} with kind={self.kind}: a teacher speaks of single "
                "tokens, and that loss knows answers only; set policy_loss=clip"
            )
        if self.mask_overlong:
            raise ValueError(
                f"mask_overlong=true with kind={self.kind}: a teacher says something of each "
                "token, of answers that were cut off too; set mask_overlong=false"
            )
        if self.kind == "distill" and self.kl.in_reward:
            raise ValueError(
                "kl.place=reward with kind=distill: rewards do not enter there; set kl.place=loss"
            )
        return self
