"""A loss and an advantage of the user's own, tried before a run."""

from collections.abc import Generator
from contextlib import contextmanager

import torch

from configs.schema.loss import LossConfig
from rl.console.errors import UserError
from rl.objectives.advantages import advantage_of
from rl.objectives.policy_losses import AnswerTokens, policy_loss_of


def try_objectives(config: LossConfig) -> None:
    """Try the policy loss on two answers, and the advantage on two groups, one answer of which has
    no reward.

    Raises:
        UserError: one cannot be found, raised an error, or gave something else than it should.
    """
    old_N = torch.tensor([-1.0, -2.0, -0.5])
    tokens = AnswerTokens(
        logprobs=old_N.clone().requires_grad_(),
        old_logprobs=old_N,
        advantages=torch.tensor([1.0, 1.0, -1.0]),
        answers=torch.tensor([0, 0, 1]),
    )
    with _named(f"loss.policy_loss {config.policy_loss!r}"):
        loss_N, _ = policy_loss_of(config.policy_loss)(tokens, config)
    if not loss_N.requires_grad:
        raise UserError(
            f"loss.policy_loss {config.policy_loss!r} has no gradient; compute it from "
            "tokens.logprobs or tokens.ratios"
        )
    rewards_PG = torch.tensor([[1.0, 0.0, 0.5], [torch.nan, 1.0, 0.0]], dtype=torch.float64)
    with _named(f"loss.advantage {config.advantage!r}"):
        advantage_of(config.advantage)(rewards_PG, torch.full_like(rewards_PG, 4.0))


@contextmanager
def _named(what: str) -> Generator[None]:
    """Errors of the user's own code become refusals that name it."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{what} raised {error!r} on a small batch; correct it") from error
