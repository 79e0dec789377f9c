"""The loss of sampled answers: rewards, the KL term, a teacher, as the recipe says."""

from collections.abc import Mapping

import torch
from torch import Tensor

from configs.schema.loss import LossConfig
from models.inputs.packing import PackedBatch
from rl.algorithms.critical_tokens import Phrases, critical_tokens
from rl.data.records import LearnerTokens
from rl.objectives.divergences import kl_divergence, reverse_kl
from rl.objectives.importance import importance_weights
from rl.objectives.policy_losses import AnswerTokens, policy_loss_of

_CRITICAL = ("critical_share", "critical_entropy")
"""As summed here: the share of critical tokens, and their entropy spread over all tokens."""


def told_apart(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics with critical_entropy as the mean over critical tokens; left out without any."""
    share, spread = (metrics[name] for name in _CRITICAL)
    others = {name: value for name, value in metrics.items() if name != _CRITICAL[1]}
    return others | ({_CRITICAL[1]: spread / share} if share > 0 else {})


def _before(batch: PackedBatch, logprobs_N: Tensor) -> Tensor:
    """float32 [N] nats, without gradient: the learner's before the step's first update, which is
    this one where they were not read."""
    return logprobs_N.detach() if batch.old_logprobs is None else batch.old_logprobs


class AnswerLoss:
    """The policy loss with the KL term, the divergence from a teacher, or both, each token weighted
    as the aggregation has it; likelihood for supervised targets."""

    def __init__(self, config: LossConfig, critical: Phrases = ()) -> None:
        """`critical`: where they begin in an answer, its entropy is told apart."""
        self._config = config
        self._loss = policy_loss_of(config.policy_loss)
        self._critical = critical
        self.answers: dict[int, LearnerTokens] = {}
        """Each answer's tokens, by its place in the step."""

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of what `__call__` tells beside the loss."""
        own = ("entropy", *_CRITICAL, "clip_share", "kl", "logprob_gap", "sampler_kl")
        weights = ("importance", "importance_bounded") if self._config.importance else ()
        return (*own, *weights, *(("teacher_kl",) if self._config.has_teacher else ()))

    def __call__(
        self, batch: PackedBatch, logprobs_N: Tensor, entropy_N: Tensor, others_NK: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        figures = {"entropy": entropy_N}
        if batch.sampler_logprobs is None or batch.advantages is None:
            return -logprobs_N, figures
        before_N = _before(batch, logprobs_N)
        gap_N = before_N - batch.sampler_logprobs
        figures["logprob_gap"] = gap_N.abs()
        figures["sampler_kl"] = kl_divergence(batch.sampler_logprobs, before_N, "k3")
        self._note_tokens(batch.answers, gap_N, entropy_N)
        critical_N = critical_tokens(batch.targets, batch.answers, self._critical)
        figures |= zip(_CRITICAL, (critical_N.float(), entropy_N * critical_N), strict=True)
        loss_N = torch.zeros_like(logprobs_N)
        if self._config.kind != "distill":
            loss_N = self._policy_loss(batch, logprobs_N, batch.advantages, figures)
        if self._config.has_teacher:
            loss_N = loss_N + self._teacher_loss(batch, logprobs_N, others_NK, figures)
        if batch.reference_logprobs is not None:
            loss_N = loss_N + self._kl_loss(batch, logprobs_N, batch.reference_logprobs, figures)
        assert batch.loss_weights is not None
        return loss_N * batch.loss_weights, figures

    def _kl_loss(
        self,
        batch: PackedBatch,
        logprobs_N: Tensor,
        reference_N: Tensor,
        figures: dict[str, Tensor],
    ) -> Tensor:
        """coef times the divergence from the reference; nothing where rewards are less by it."""
        kl = self._config.kl
        figures["kl"] = kl_divergence(logprobs_N, reference_N, kl.estimator)
        if kl.place == "reward":
            return torch.zeros_like(logprobs_N)
        if not kl.weighted:
            return kl.coef * figures["kl"]
        return kl.coef * torch.exp(logprobs_N - self._old(batch, logprobs_N)) * figures["kl"]

    def _old(self, batch: PackedBatch, logprobs_N: Tensor) -> Tensor:
        """float32 [N] nats: of the policy that the ratio is taken against."""
        assert batch.sampler_logprobs is not None
        if self._config.ratio_to_learner:
            return _before(batch, logprobs_N)
        return batch.sampler_logprobs

    def _policy_loss(
        self,
        batch: PackedBatch,
        logprobs_N: Tensor,
        advantages_N: Tensor,
        figures: dict[str, Tensor],
    ) -> Tensor:
        config, sampler_N = self._config, batch.sampler_logprobs
        assert sampler_N is not None
        old_N = self._old(batch, logprobs_N)
        tokens = AnswerTokens(logprobs_N, old_N, advantages_N, batch.answers)
        loss_N, figures["clip_share"] = self._loss(tokens, config)
        if config.importance is None:
            return loss_N
        weights_N, bounded_N = importance_weights(tokens, sampler_N, config.importance)
        figures |= {"importance": weights_N, "importance_bounded": bounded_N}
        return loss_N * weights_N

    def _teacher_loss(
        self,
        batch: PackedBatch,
        logprobs_N: Tensor,
        others_NK: Tensor,
        figures: dict[str, Tensor],
    ) -> Tensor:
        """KL(policy || teacher) over the teacher's tokens; of the sampled token alone its
        log-ratio as an advantage, since the gradient of a sampled KL is that of a reward."""
        coef = self._config.distill.coef
        assert batch.sampler_logprobs is not None and batch.teacher_logprobs is not None
        if batch.teacher_top_logprobs is None or others_NK.shape[1] == 0:
            advantages_N = coef * (batch.teacher_logprobs - batch.sampler_logprobs)
            figures["teacher_kl"] = batch.sampler_logprobs - batch.teacher_logprobs
            return self._policy_loss(batch, logprobs_N, advantages_N, figures)
        figures["teacher_kl"] = reverse_kl(others_NK, batch.teacher_top_logprobs)
        return coef * figures["teacher_kl"]

    def _note_tokens(self, answers_N: Tensor, gap_N: Tensor, entropy_N: Tensor) -> None:
        """Keep what belongs to each answer, whose tokens stand behind one another."""
        answers, counts = answers_N.unique_consecutive(return_counts=True)
        sizes = counts.tolist()
        gaps, entropies = (each_N.cpu().split(sizes) for each_N in (gap_N, entropy_N))
        for answer, gap, entropy in zip(answers.tolist(), gaps, entropies, strict=True):
            self.answers[answer] = LearnerTokens(gap.numpy(), entropy.numpy())
