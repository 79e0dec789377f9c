"""Policy losses by name, per token: how far the policy may go from the one that its answers are of.

Each is a sum's part, never a mean: what a token counts is said elsewhere (`aggregation`). Axis: N
tokens of whole answers.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from configs.schema.loss import LossConfig
from rl.console.errors import UserError
from rl.console.user_functions import load_function


@dataclass(frozen=True, slots=True)
class AnswerTokens:
    """The tokens of a micro-batch's answers, each of which is there whole."""

    logprobs: Tensor
    """float32 [N] nats, the policy's, with gradient."""
    old_logprobs: Tensor
    """float32 [N] nats, of the policy that the ratio is taken against."""
    advantages: Tensor
    """float32 [N]."""
    answers: Tensor
    """int64 [N]: which answer each token belongs to."""

    @property
    def ratios(self) -> Tensor:
        """float32 [N] rho = exp(logprob - old logprob), with gradient."""
        return torch.exp(self.logprobs - self.old_logprobs)

    def sums(self, values_N: Tensor) -> Tensor:
        """float32 [N]: at each token the sum of the values over its answer."""
        _, places_N = self.answers.unique(return_inverse=True)
        sums = values_N.new_zeros(len(values_N)).index_add(0, places_N, values_N)
        return sums[places_N]

    def means(self, values_N: Tensor) -> Tensor:
        """float32 [N]: at each token the mean of the values over its answer."""
        return self.sums(values_N) / self.sums(torch.ones_like(values_N))


PolicyLoss = Callable[[AnswerTokens, LossConfig], tuple[Tensor, Tensor]]
"""float32 [N] losses, and bool [N], True where a bound acts on the gradient."""


def clipped(tokens: AnswerTokens, config: LossConfig) -> tuple[Tensor, Tensor]:
    """-min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A): PPO (arXiv:1707.06347, sec. 3), with
    DAPO's separate bounds (arXiv:2503.14476, sec. 3.1). True where the gradient is gone."""
    return _clipped(tokens.ratios, tokens.advantages, config)


def gspo(tokens: AnswerTokens, config: LossConfig) -> tuple[Tensor, Tensor]:
    """The clipped loss with one ratio an answer, exp(mean over its tokens of log rho): GSPO
    (arXiv:2507.18071, equations 5 to 7)."""
    ratios_N = torch.exp(tokens.means(tokens.logprobs - tokens.old_logprobs))
    return _clipped(ratios_N, tokens.advantages, config)


def rloo(tokens: AnswerTokens, config: LossConfig) -> tuple[Tensor, Tensor]:
    """The clipped loss with the ratio of whole answers, exp(sum over its tokens of log rho), since
    an answer is one action: RLOO (arXiv:2402.14740, sec. 3.2), clipped as TRL does."""
    ratios_N = torch.exp(tokens.sums(tokens.logprobs - tokens.old_logprobs))
    return _clipped(ratios_N, tokens.advantages, config)


def cispo(tokens: AnswerTokens, config: LossConfig) -> tuple[Tensor, Tensor]:
    """-sg(clip(rho, 1 - clip_low, 1 + clip_high)) A log pi: a bounded weight, and each token keeps
    its gradient. CISPO (MiniMax-M1, arXiv:2506.13585, equations 4 and 5). True where bounded."""
    ratios_N = tokens.ratios.detach()
    bounded_N = _within_bounds(ratios_N, config)
    return -bounded_N * tokens.advantages * tokens.logprobs, bounded_N != ratios_N


def sapo(tokens: AnswerTokens, config: LossConfig) -> tuple[Tensor, Tensor]:
    """-(4 / tau) sigmoid(tau (rho - 1)) A, tau by the sign of A: a gate that closes smoothly, with
    slope 1 on-policy. SAPO (arXiv:2511.20347, sec. 3). Never True."""
    gates = config.sapo
    taus_N = torch.where(tokens.advantages > 0, gates.positive, gates.negative)
    loss_N = -torch.sigmoid(taus_N * (tokens.ratios - 1.0)) * 4.0 / taus_N * tokens.advantages
    return loss_N, torch.zeros_like(loss_N, dtype=torch.bool)


def dppo_tv(tokens: AnswerTokens, config: LossConfig) -> tuple[Tensor, Tensor]:
    """-M rho A; M is 0 where the token's probability has gone more than the bound from the old one,
    |pi - mu|, to the side that A pushes to: DPPO, binary total variation (arXiv:2602.04879)."""
    apart_N = (tokens.logprobs.detach().exp() - tokens.old_logprobs.exp()).abs()
    return _masked(tokens, apart_N, config)


def dppo_kl(tokens: AnswerTokens, config: LossConfig) -> tuple[Tensor, Tensor]:
    """-M rho A as in `dppo_tv`, with the KL of old and new as a choice of this token or another,
    mu log(mu / pi) + (1 - mu) log((1 - mu) / (1 - pi)): DPPO, binary KL (arXiv:2602.04879)."""
    new_N, old_N = tokens.logprobs.detach(), tokens.old_logprobs
    rest_N = _log_rest(old_N) - _log_rest(new_N)
    apart_N = old_N.exp() * (old_N - new_N) + (1.0 - old_N.exp()) * rest_N
    return _masked(tokens, apart_N, config)


POLICY_LOSSES: dict[str, PolicyLoss] = {
    "clip": clipped,
    "gspo": gspo,
    "rloo": rloo,
    "cispo": cispo,
    "sapo": sapo,
    "dppo_tv": dppo_tv,
    "dppo_kl": dppo_kl,
}
"""By the names of loss.policy_loss."""

_LEAST_REST = 1e-7


def policy_loss_of(name: str) -> PolicyLoss:
    """The entry of that name, or the user's own function, which takes tokens and gives losses.

    Raises:
        UserError: there is no such function, or it gave something else.
    """
    if name in POLICY_LOSSES:
        return POLICY_LOSSES[name]
    function = load_function(name, "loss.policy_loss")

    def own(tokens: AnswerTokens, config: LossConfig) -> tuple[Tensor, Tensor]:
        loss_N = function(tokens)
        if not isinstance(loss_N, Tensor) or loss_N.shape != tokens.logprobs.shape:
            shape = tuple(loss_N.shape) if isinstance(loss_N, Tensor) else repr(loss_N)
            raise UserError(
                f"loss.policy_loss {name!r} returned {shape} for {len(tokens.logprobs)} tokens; "
                "return a tensor with the loss of each token"
            )
        return loss_N, torch.zeros_like(loss_N, dtype=torch.bool)

    return own


def _within_bounds(ratios_N: Tensor, config: LossConfig) -> Tensor:
    low = None if config.clip_low is None else 1.0 - config.clip_low
    high = None if config.clip_high is None else 1.0 + config.clip_high
    return ratios_N.clamp(low, high)


def _clipped(ratios_N: Tensor, advantages_N: Tensor, config: LossConfig) -> tuple[Tensor, Tensor]:
    free_N, bound_N = ratios_N * advantages_N, _within_bounds(ratios_N, config) * advantages_N
    return -torch.minimum(free_N, bound_N), bound_N.detach() < free_N.detach()


def _masked(tokens: AnswerTokens, apart_N: Tensor, config: LossConfig) -> tuple[Tensor, Tensor]:
    """-rho A, and 0 where new and old are further `apart_N` than the bound, on the side that the
    advantage pushes to."""
    assert config.clip_low is not None and config.clip_high is not None
    ratios_N, advantages_N = tokens.ratios, tokens.advantages
    risen_N = (advantages_N > 0) & (ratios_N.detach() > 1.0) & (apart_N > config.clip_high)
    fallen_N = (advantages_N < 0) & (ratios_N.detach() < 1.0) & (apart_N > config.clip_low)
    held_N = risen_N | fallen_N
    return -torch.where(held_N, 0.0, ratios_N * advantages_N), held_N


def _log_rest(logprobs_N: Tensor) -> Tensor:
    """float32 [N]: log of the probability that is left to the other tokens."""
    return torch.log1p(-logprobs_N.exp().clamp(max=1.0 - _LEAST_REST))
