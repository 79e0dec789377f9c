"""What supervised ranks learn by: the likelihood of chats, or the preference of pairs."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actors.training.update import TokenLoss
from configs.jobs.mpo import PreferenceLossConfig
from models.inputs.chat_loader import ReadyPack, StepShare
from models.inputs.packing import PackedBatch
from rl.algorithms.sft import perplexity
from rl.data.records import Chat, Pair
from rl.objectives.preferences import PREFERENCE_FIGURES, mpo_loss, next_delta
from rl.run_log.samples import Logged, LoggedChat, LoggedPair

_SURPRISES = 3

Decode = Callable[[Sequence[int]], str]
"""From token ids to their text."""


class Objective(Protocol):
    """What a pack is learned by, and what is told of it."""

    @property
    def figures(self) -> Sequence[str]:
        """Names of what `token_loss` tells beside the loss."""
        ...

    def weight(self, share: StepShare) -> float:
        """This rank's part of what the loss of a step is divided by."""
        ...

    def token_loss(self, ready: ReadyPack) -> TokenLoss:
        """The loss of a pack."""
        ...

    def finish(self, metrics: Mapping[str, float]) -> Mapping[str, float]:
        """What is logged of a step with these metrics, the same on every rank."""
        ...

    def held_out(self, loss: float, means: Mapping[str, float]) -> Mapping[str, float]:
        """What is logged of an evaluation."""
        ...

    def logged(self, ready: ReadyPack, logprobs_N: Tensor, most: int | None) -> list[Logged]:
        """The pack's first samples for the run's log; None: all."""
        ...

    def save(self, folder: Path) -> None:
        """Write what the next step needs to know, on rank 0."""
        ...

    def restore(self, folder: Path) -> None:
        """Read it again, on every rank."""
        ...


class Likelihood:
    """-log p of each trained token; the loss is its mean over all of a step."""

    figures: Sequence[str] = ()

    def __init__(self, decode: Decode) -> None:
        self._decode = decode

    def weight(self, share: StepShare) -> float:
        """Trained tokens."""
        return share.trained

    def token_loss(self, ready: ReadyPack) -> TokenLoss:
        """See `TokenLoss`."""
        return lambda _, logprobs_N, *__: (-logprobs_N, {})

    def finish(self, metrics: Mapping[str, float]) -> Mapping[str, float]:
        """The metrics as they are."""
        return metrics

    def held_out(self, loss: float, means: Mapping[str, float]) -> Mapping[str, float]:
        """Loss and perplexity of a trained token."""
        return {"loss": loss, "perplexity": perplexity(loss)}

    def logged(self, ready: ReadyPack, logprobs_N: Tensor, most: int | None) -> list[Logged]:
        """Chats with their loss and their least likely tokens."""
        share, packed, values_N = ready.share, ready.packed, logprobs_N.cpu()
        logged: list[Logged] = []
        for number, position in enumerate(ready.positions[:most]):
            chat = share.chats[position]
            assert isinstance(chat, Chat), "a likelihood is of chats"
            own_N = (packed.answers == number) & (packed.weights > 0)
            own, ids = values_N[own_N], packed.targets[own_N]
            least = own.argsort()[:_SURPRISES]
            logged.append(
                LoggedChat(
                    chat,
                    tokens=sum(len(each.ids) for each in share.tokenised[position]),
                    trained_tokens=len(own),
                    loss=-own.mean().item(),
                    least_likely=tuple(
                        (self._decode([ids[i].item()]), own[i].exp().item()) for i in least.tolist()
                    ),
                )
            )
        return logged

    def save(self, folder: Path) -> None:
        """It remembers nothing."""

    def restore(self, folder: Path) -> None:
        """It remembers nothing."""


class Preference:
    """MPO's loss of each pair; the loss of a step is the mean over its pairs."""

    figures: Sequence[str] = PREFERENCE_FIGURES

    def __init__(
        self,
        config: PreferenceLossConfig,
        references_N2: NDArray[np.float32],
        delta: "Delta | None" = None,
    ) -> None:
        """`references_N2`: logprobs of all pairs' answers under the start policy, nats; `delta`:
        that of the training pairs, where these are held out."""
        self._config = config
        self._references_N2 = references_N2
        self.delta = delta or Delta()

    def weight(self, share: StepShare) -> float:
        """Pairs."""
        return len(share.chats)

    def token_loss(self, ready: ReadyPack) -> TokenLoss:
        """The loss and figures of each pair stand at its chosen answer's first token."""

        def loss(
            batch: PackedBatch, logprobs_N: Tensor, *_: Tensor
        ) -> tuple[Tensor, Mapping[str, Tensor]]:
            if not ready.positions:  # filler, which weighs nothing
                return logprobs_N * 0.0, {}
            own_P2 = pair_logprobs(batch, logprobs_N)
            reference_P2 = torch.from_numpy(self._references_N2[indices_of(ready)]).to(own_P2)
            counts = batch.answers.bincount(minlength=own_P2.numel()).view(-1, 2)
            loss_P, figures = mpo_loss(
                own_P2, reference_P2, counts[:, 0], self.delta.value, self._config
            )
            first_P = torch.searchsorted(
                batch.answers, torch.arange(0, own_P2.numel(), 2, device=batch.answers.device)
            )

            def spread(values_P: Tensor) -> Tensor:
                return torch.zeros_like(logprobs_N).index_put((first_P,), values_P)

            return spread(loss_P), {name: spread(value) for name, value in figures.items()}

        return loss

    def finish(self, metrics: Mapping[str, float]) -> Mapping[str, float]:
        """The metrics with the delta of the step, which then moves on."""
        told = {**metrics, "delta": self.delta.value}
        self.delta.value = next_delta(
            self.delta.value,
            metrics["chosen_reward"],
            metrics["rejected_reward"],
            self._config.delta_decay,
        )
        return told

    def held_out(self, loss: float, means: Mapping[str, float]) -> Mapping[str, float]:
        """The loss of a pair and all its figures."""
        return {"loss": loss, **means}

    def logged(self, ready: ReadyPack, logprobs_N: Tensor, most: int | None) -> list[Logged]:
        """Pairs with the r of both answers."""
        if not ready.positions:
            return []
        own_P2 = pair_logprobs(ready.packed, logprobs_N.cpu())
        references_P2 = torch.from_numpy(self._references_N2[indices_of(ready)])
        rewards_P2 = self._config.beta * (own_P2 - references_P2)
        logged: list[Logged] = []
        for position, (chosen, rejected) in zip(
            ready.positions[:most], rewards_P2.tolist(), strict=False
        ):
            pair = ready.share.chats[position]
            assert isinstance(pair, Pair), "a preference is of pairs"
            logged.append(LoggedPair(pair, chosen, rejected))
        return logged

    def save(self, folder: Path) -> None:
        """Write delta."""
        (folder / _DELTA).write_text(json.dumps({"delta": self.delta.value}) + "\n", "utf-8")

    def restore(self, folder: Path) -> None:
        """Read delta."""
        self.delta.value = json.loads((folder / _DELTA).read_text("utf-8"))["delta"]


_DELTA = "preference.json"


class Delta:
    """BCO's delta: the moving average of r, 0 before the first step."""

    value = 0.0


def pair_logprobs(batch: PackedBatch, logprobs_N: Tensor) -> Tensor:
    """float32 [P, 2] nats: the sums over each pair's chosen and rejected answer.

    Args:
        batch: pairs, whose answers are numbered 0, 1, 2, 3, ...: chosen, rejected, chosen, ...
        logprobs_N: float32 [N] nats.
    """
    answers = int(batch.answers.max()) + 1
    return logprobs_N.new_zeros(answers).index_add(0, batch.answers, logprobs_N).view(-1, 2)


def indices_of(ready: ReadyPack) -> list[int]:
    """Places in the data of the pack's pairs, in its order."""
    return [ready.share.window[position] for position in ready.positions]
