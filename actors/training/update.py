"""One step of the optimiser, as GRPO learners and SFT ranks make it; the loss is plugged in."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from actors.training.collectives import sum_over_ranks
from actors.training.deepspeed_engine import DeepSpeedEngine
from models.inputs.packing import PackedBatch
from rl.data.records import UpdateReport

TokenLoss = Callable[[PackedBatch, Tensor, Tensor, Tensor], tuple[Tensor, Mapping[str, Tensor]]]
"""(batch on the device, its float32 [N] logprobs with gradient, its float32 [N] entropies, float32
[N, K] logprobs of a teacher's tokens with gradient) to float32 [N] losses, and figures [N] that are
reported as means over tokens."""


class Update:
    """Micro-batches whose gradients add up, and the step that applies them.

    The loss is the sum over the tokens of all ranks, divided by their number: neither micro-batches
    nor ranks change the gradient. Every rank adds equally many micro-batches.
    """

    def __init__(self, engine: DeepSpeedEngine, tokens: float, figures: Sequence[str] = ()) -> None:
        """`tokens`: tokens of all ranks that count; `figures`: names of those of the loss."""
        self._engine = engine
        self._tokens = tokens
        zero = torch.zeros((), dtype=torch.float64, device=engine.device)
        self._sums = {name: zero.clone() for name in ("loss", *figures)}

    def add(self, batch: PackedBatch, token_loss: TokenLoss) -> Tensor:
        """Add a micro-batch's gradient; its float32 [N] logprobs in nats, without gradient."""
        batch = batch.to(self._engine.device)
        logprobs_N, entropy_N, others_NK = self._engine.forward(batch)
        loss_N, figures = token_loss(batch, logprobs_N, entropy_N, others_NK)
        loss = (loss_N * batch.weights).sum() / self._tokens
        self._sums["loss"] += loss.detach()
        for name, value_N in figures.items():
            self._sums[name] += (value_N.detach() * batch.weights).sum()
        self._engine.backward(loss)
        return logprobs_N.detach()

    def finish(self) -> UpdateReport:
        """Clip and apply the gradient, or skip the step where it is not finite.

        The report's metrics are the same on every rank; `answers` is empty.
        """
        skipped, grad_norm = self._engine.step()
        # Ranks that share rows have each counted them; of the gradient each has a part.
        sums = torch.stack([*self._sums.values()]) / self._engine.ranks_per_row
        loss, *totals = sum_over_ranks(sums, self._engine.device)
        figures = [name for name in self._sums if name != "loss"]
        means = {name: total / self._tokens for name, total in zip(figures, totals, strict=True)}
        metrics = {"loss": loss, **means, "grad_norm": grad_norm, "lr": self._engine.lr}
        return UpdateReport(metrics | {"skipped": float(skipped)}, {}, (skipped,))
