"""The learner: one DeepSpeed rank that turns scored answers into a better policy."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import ray
import torch
import torch.distributed as dist
from torch import Tensor

from actors.weight_transfer.rendezvous import Rendezvous
from configs.schema.data import PromptConfig
from configs.schema.grpo import PolicyConfig
from configs.schema.learner import LearnerConfig
from configs.schema.loss import LossConfig
from models.inputs.encoder import InputEncoder
from models.inputs.packing import PackedBatch, pack
from models.policy.weight_sums import WeightSums
from rl.algorithms.losses import clipped_policy_loss, kl_divergence
from rl.algorithms.rows import MicroBatch
from rl.data.records import UpdateReport

logger = logging.getLogger(__name__)

RENDEZVOUS_TIMEOUT = timedelta(minutes=30)
"""How long a rank waits for the others: they may read a large policy from a slow disk."""


@dataclass(frozen=True, slots=True)
class LearnerSpec:
    """What every rank is told at its start."""

    folder: Path
    """Checkpoint that the policy starts from."""
    policy: PolicyConfig
    prompt: PromptConfig
    loss: LossConfig
    learner: LearnerConfig
    temperature: float
    """What the sampler divides its logits by."""
    total_steps: int
    """Updates that the learning rate's schedule spans."""
    device: str
    """cpu or cuda."""


@dataclass(frozen=True, slots=True)
class RankShare:
    """One rank's micro-batches. Their problems come as object refs, each image once a node."""

    batches: Sequence[MicroBatch]
    """Rows whose problems have been left without images."""
    problems: Sequence[Any]
    """Object refs of the whole problems."""

    def open(self) -> list[MicroBatch]:
        """The micro-batches with their problems whole."""
        whole = {problem.id: problem for problem in ray.get(list(self.problems))}
        return [
            tuple(replace(row, problem=whole[row.problem.id]) for row in batch)
            for batch in self.batches
        ]


class LearnerRank:
    """One rank. A plain class; the cluster makes it a Ray actor with a device of its own."""

    def __init__(self, job: LearnerSpec, rank: int) -> None:
        """`rank`: this learner's place among `job.learner.ranks`. The policy comes in `setup`."""
        self._job = job
        self._rank = rank
        self._device = torch.device(job.device)
        self._encoder = InputEncoder(job.folder, job.prompt, job.policy.trust_remote_code)
        self._store: dist.TCPStore | None = None
        self._sender: Any = None

    def open_rendezvous_store(self) -> tuple[str, int]:
        """Open the store where all ranks will meet, on this rank's node; its address and port.

        Opened at once and on whatever port is free: a port that is only looked up may be somebody
        else's when the ranks have imported what they need and come.
        """
        address = ray.util.get_node_ip_address()
        self._store = dist.TCPStore(
            address, 0, is_master=True, wait_for_workers=False, timeout=RENDEZVOUS_TIMEOUT
        )
        return address, self._store.port

    def setup(self, address: str, port: int) -> None:
        """Join the other ranks at `address:port`, rank 0's store, and shard the policy."""
        # The driver imports this file, too, and does without the models, which take it seconds.
        from actors.training.deepspeed_engine import DeepSpeedEngine
        from models.policy.loading import load_learning_model, recompute_activations
        from models.policy.policy import Policy

        self._init_process_group(address, port)
        job = self._job
        model = load_learning_model(job.policy, job.folder)
        if job.learner.gradient_checkpointing:
            recompute_activations(model)
        policy = Policy(
            model, self._encoder, temperature=job.temperature, chunk=job.learner.logprob_chunk
        )
        self._engine = DeepSpeedEngine(policy, job.learner, job.policy.dtype, job.total_steps)

    def _init_process_group(self, address: str, port: int) -> None:
        ranks = self._job.learner.ranks
        os.environ.update(
            RANK=str(self._rank),
            LOCAL_RANK="0",  # Ray shows each actor its own device only
            WORLD_SIZE=str(ranks),
        )
        dist.init_process_group(
            "nccl" if self._job.device == "cuda" else "gloo",
            store=self._store or dist.TCPStore(address, port, timeout=RENDEZVOUS_TIMEOUT),
            rank=self._rank,
            world_size=ranks,
        )

    def update(self, share: RankShare, tokens: int) -> UpdateReport:
        """One step of the optimiser over all of this rank's micro-batches.

        The loss is the sum over the answers' tokens of all ranks, divided by `tokens`, the step's
        global count: the gradient does not depend on how the step was cut.
        """
        sums = _Sums(self._device)
        for batch in share.open():
            packed, pixels = self._tensors(batch)
            logprobs_N, entropy_N = self._engine.forward(packed, pixels)
            loss_N = self._losses(packed, logprobs_N, sums)
            sums.entropy += (entropy_N * packed.weights).sum()
            loss = (loss_N * packed.weights).sum() / tokens
            sums.loss += loss.detach()
            # A loss that is not finite need not make each gradient so; this does, and the
            # optimiser then refuses the whole step.
            self._engine.backward(loss if loss.isfinite() else loss * float("nan"))
        skipped, grad_norm = self._engine.step()
        metrics = sums.reduce(tokens)
        metrics |= {"grad_norm": grad_norm, "lr": self._engine.lr, "skipped": float(skipped)}
        return UpdateReport(metrics, sums.gaps, skipped)

    def _losses(self, batch: PackedBatch, logprobs_N: Tensor, sums: "_Sums") -> Tensor:
        """float32 [N] losses of a micro-batch: likelihood for targets, PPO for sampled answers."""
        if batch.sampler_logprobs is None:
            return -logprobs_N
        config = self._job.loss
        sums.add_gaps(batch, logprobs_N.detach())
        loss_N, clipped_N = clipped_policy_loss(
            logprobs_N,
            batch.sampler_logprobs,
            batch.advantages,
            config.clip_low,
            config.clip_high,
        )
        sums.clipped += (clipped_N * batch.weights).sum()
        if batch.reference_logprobs is not None:
            kl_N = kl_divergence(logprobs_N, batch.reference_logprobs, config.kl.estimator)
            sums.kl += (kl_N.detach() * batch.weights).sum()
            loss_N = loss_N + config.kl.coef * kl_N
        return loss_N

    @torch.no_grad()
    def logprobs(self, share: RankShare) -> dict[int, tuple[float, ...]]:
        """Logprobs in nats of each answer's tokens, by the answer's index."""
        found: dict[int, list[float]] = {}
        for batch in share.open():
            packed, pixels = self._tensors(batch)
            logprobs_N, _ = self._engine.forward(packed, pixels)
            for index, value in zip(packed.answers.tolist(), logprobs_N.tolist(), strict=True):
                found.setdefault(index, []).append(value)
        return {index: tuple(values) for index, values in found.items()}

    def _tensors(self, batch: MicroBatch) -> tuple[PackedBatch, dict[str, Tensor]]:
        pixels = (
            self._encoder.pixels([row.problem for row in batch])
            if (self._encoder.has_vision)
            else {}
        )
        moved = {name: value.to(self._device) for name, value in pixels.items()}
        return pack(batch, self._encoder.pad_id).to(self._device), moved

    def init_weight_transfer(self, meeting: Rendezvous) -> None:
        """Meet the rollout engines; the next `publish` sends every weight, later ones what learns.

        Called on every rank at the same time, again after an engine was replaced.
        """
        from actors.weight_transfer.sender import WeightSender

        if self._sender is not None:
            self._sender.close()
        self._sender = None
        engine = self._engine
        self._sender = WeightSender(meeting, engine.weights(), self._rank, engine.gathered)

    def send_weights(self) -> WeightSums:
        """Send the weights; (sum, sum of squares) of each as sent, now or in an earlier round."""
        if self._sender is None:
            raise RuntimeError("publish() before connect(): no engine is listening")
        return self._sender.send()

    def save(self, folder: Path) -> None:
        """Write the learner's state: weights, optimiser, schedule. Called on every rank."""
        self._engine.save(folder)
        torch.save(torch.get_rng_state(), self._rng_file(folder))

    def restore(self, folder: Path) -> None:
        """Go on from `save`'s folder. Called on every rank."""
        self._engine.restore(folder)
        torch.set_rng_state(torch.load(self._rng_file(folder), weights_only=True))

    def _rng_file(self, folder: Path) -> Path:
        return folder / f"random_state_of_rank_{self._rank}.pt"

    def export(self, folder: Path) -> None:
        """Write the policy in Hugging Face layout on rank 0. Called on every rank."""
        from actors.training.export import export_policy

        export_policy(self._engine, self._encoder, self._job.folder, folder)


class _Sums:
    """Token sums of one update, kept on the device until the end."""

    def __init__(self, device: torch.device) -> None:
        zero = torch.zeros((), dtype=torch.float64, device=device)
        self.loss: Tensor = zero.clone()
        self.entropy: Tensor = zero.clone()
        self.clipped: Tensor = zero.clone()
        self.kl: Tensor = zero.clone()
        self.gap: Tensor = zero.clone()
        self.gaps: dict[int, float] = {}

    def add_gaps(self, batch: PackedBatch, logprobs_N: Tensor) -> None:
        """Note how far sampler and learner are apart, in all and for each answer."""
        assert batch.sampler_logprobs is not None
        gap_N = (logprobs_N - batch.sampler_logprobs).abs() * batch.weights
        self.gap += gap_N.sum()
        indices, places = batch.answers.unique(return_inverse=True)
        size = len(indices)
        total = torch.zeros(size, device=gap_N.device).index_add_(0, places, gap_N)
        count = torch.zeros(size, device=gap_N.device).index_add_(0, places, batch.weights)
        for index, mean, weight in zip(
            indices.tolist(), (total / count.clamp_min(1)).tolist(), count.tolist(), strict=True
        ):
            if weight > 0:
                self.gaps[index] = mean

    def reduce(self, tokens: int) -> dict[str, float]:
        """The step's means over all ranks' tokens."""
        parts = (self.loss, self.entropy, self.clipped, self.kl, self.gap)
        stacked = torch.stack(parts)
        dist.all_reduce(stacked)
        loss, entropy, clipped, kl, gap = stacked.tolist()
        return {
            "loss": loss,
            "entropy": entropy / tokens,
            "clip_share": clipped / tokens,
            "kl": kl / tokens,
            "logprob_gap": gap / tokens,
        }
