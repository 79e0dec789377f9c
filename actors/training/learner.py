"""The learner: one DeepSpeed rank that turns scored answers into a better policy."""

import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal

import ray
import torch
import torch.distributed as dist
from torch import Tensor

from actors.cluster.actor_names import NamedActor
from actors.cluster.metrics import Metrics
from actors.cluster.object_refs import SharedBatches
from actors.training.answer_loss import AnswerLoss, told_apart
from actors.training.collectives import sum_over_ranks
from actors.training.speed import UpdateSpeed, peak_memory_bytes
from actors.training.step_trace import traced_update
from actors.weight_transfer.rendezvous import Rendezvous
from configs.jobs.grpo import PolicyConfig
from configs.schema.data import PromptConfig
from configs.schema.features import FeaturesConfig
from configs.schema.learner import GRPOLearnerConfig
from configs.schema.loss import LossConfig
from configs.schema.rollout import DistributionConfig
from models.inputs.encoder import InputEncoder
from models.inputs.packing import PackedBatch, pack
from models.policy.flops import TrainingFlops, peak_flops
from models.policy.weight_sums import WeightSums
from rl.algorithms.critical_tokens import phrases_of
from rl.algorithms.rows import MicroBatch
from rl.data.prefetch import prefetch
from rl.data.records import UpdateReport

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LearnerSpec:
    """What every rank is told at its start."""

    folder: Path
    """Checkpoint that the policy starts from."""
    policy: PolicyConfig
    prompt: PromptConfig
    loss: LossConfig
    learner: GRPOLearnerConfig
    engine_dtype: str
    """Precision of the engines' weights: bfloat16 or float32."""
    distribution: DistributionConfig
    """What the sampler draws from."""
    critical_words: tuple[str, ...]
    """At whose beginnings the entropy is told apart."""
    total_steps: int
    """Updates that the learning rate's schedule spans."""
    device: str
    """cpu or cuda."""
    traces: Path
    """Where the trace of an update goes, if the recipe asks for one."""
    features: FeaturesConfig
    """Whether what the frozen tower makes of images is kept."""
    yields_gpu: bool = False
    """An engine takes the GPU's memory whenever the learner does not learn."""
    offload_optimizer: bool = False
    """The optimizer's moments wait on the host meanwhile."""
    reference: Literal["base", "shards"] | None = None
    """The reference policy that the learner is asked for: its weights without adapters, or a
    sharded copy of the start policy; None: others are asked, or nobody."""
    offload_reference: bool = False
    """The copy's shards lie on the host."""


Reference = Callable[[PackedBatch], Tensor]
"""A batch to the reference's float32 [N] logprobs in nats."""


class LearnerRank(NamedActor):
    """One rank. A plain class; the cluster makes it a Ray actor with a device of its own."""

    def __init__(self, job: LearnerSpec, rank: int) -> None:
        """`rank`: this learner's place among `job.learner.ranks`. The policy comes in `setup`."""
        self._job = job
        self._rank = rank
        self._encoder = InputEncoder(job.folder, job.prompt, job.policy.trust_remote_code)
        self._store: dist.TCPStore | None = None
        self._patience = timedelta(seconds=job.learner.timeout_s)
        self._sender: Any = None
        self._reference: Reference | None = None
        self._tower: Any = None
        self._features: Any = None
        self._metrics = Metrics()
        # Torch's own threads stay the model's.
        self._pool = ThreadPoolExecutor(1, "pixels", torch.set_num_threads, (1,))
        self._critical = phrases_of(job.critical_words, self._encoder.tokenise)

    def open_rendezvous_store(self) -> tuple[str, int]:
        """Open the store where all ranks will meet, on this rank's node; its address and port.

        Opened at once and on whatever port is free: a port that is only looked up may be somebody
        else's when the ranks have imported what they need and come.
        """
        address = ray.util.get_node_ip_address()
        self._store = dist.TCPStore(
            address, 0, is_master=True, wait_for_workers=False, timeout=self._patience
        )
        return address, self._store.port

    def setup(self, address: str, port: int) -> None:
        """Join the other ranks at `address:port`, rank 0's store, and shard the policy."""
        # The driver imports this file, too, and does without the models, which take it seconds.
        from actors.training.deepspeed_engine import DeepSpeedEngine
        from actors.training.learner_reference import BaseReference, ShardedReference
        from models.policy.features import FeatureCache, feature_store
        from models.policy.loading import build_policy, load_model
        from models.sequence_parallel.group import SequenceGroup

        self._init_process_group(address, port)
        job = self._job
        group = SequenceGroup.of_size(job.learner.sequence_parallel_size, self._patience)
        build = partial(
            build_policy,
            config=job.policy,
            encoder=self._encoder,
            learner=job.learner,
            distribution=job.distribution,
        )
        model = load_model(job.policy, job.folder, as_saved=job.learner.zero_stage == 3)
        policy = build(model)
        if group is not None:
            policy.share_rows(group, self._encoder.pad_id)
        store = feature_store(job.features, job.learner.ranks)
        # Ray shows each actor its own GPU only.
        device = torch.device("cuda:0" if job.device == "cuda" else "cpu")
        dtype = getattr(torch, job.policy.dtype)
        if store is not None:
            self._tower = policy.detach_vision_tower(device, dtype)
            self._features = FeatureCache(self._tower, self._encoder, store)
        self._flops = TrainingFlops(policy.model)
        self._peak_flops = peak_flops(job.learner.peak_tflops, job.policy.dtype)
        self._engine = DeepSpeedEngine(policy, job.learner, job.policy.dtype, job.total_steps)
        if job.reference == "base":
            self._reference = BaseReference(self._engine)
        elif job.reference == "shards":
            start = build(load_model(job.policy, job.folder, as_saved=True), learns=False)
            if store is not None:  # it reads the learner's batches
                start.leave_tower_to(policy, self._tower)
            if group is not None:
                start.share_rows(group, self._encoder.pad_id)
            self._reference = ShardedReference(
                start, job.learner, job.policy.dtype, job.offload_reference
            )
        self._yield_gpu()

    def kept_embeddings(self) -> Any:
        """Where engines find what is kept of images, a KeptEmbeddings; None: they see pixels."""
        features = self._job.features
        shared = features.reach_engines(self._job.policy.train)
        return self._features.kept_in(features.folder) if shared else None

    def _yield_gpu(self) -> None:
        """Let an engine have what the next update alone wants of the GPU, and what torch keeps of
        it for its next tensors."""
        if self._job.offload_optimizer:
            self._engine.moments.offload()
        if self._job.yields_gpu:
            torch.cuda.empty_cache()

    def _init_process_group(self, address: str, port: int) -> None:
        ranks = self._job.learner.ranks
        os.environ.update(
            RANK=str(self._rank),
            LOCAL_RANK="0",  # Ray shows each actor its own device only
            WORLD_SIZE=str(ranks),
        )
        dist.init_process_group(
            "nccl" if self._job.device == "cuda" else "gloo",
            store=self._store or dist.TCPStore(address, port, timeout=self._patience),
            timeout=self._patience,
            rank=self._rank,
            world_size=ranks,
        )

    def update(self, share: SharedBatches, tokens: int) -> UpdateReport:
        """One step of the optimiser over this rank's micro-batches; `tokens`: of all ranks."""
        if self._job.offload_optimizer:
            self._engine.moments.reload()
        speed = UpdateSpeed(self._flops, self._peak_flops, self._job.learner.ranks_per_row)
        profile, step = self._job.learner.profile, 1 + self._engine.updates
        with traced_update(profile, step, self._rank, self._job.traces):
            report = self._update(share, tokens, speed)
        self._metrics.set("learner_memory_bytes", peak_memory_bytes())
        told = {**report.metrics, **speed.metrics(self._engine.device), **self._kept()}
        self._yield_gpu()
        return replace(report, metrics=told)

    def _kept(self) -> dict[str, float]:
        """The share of images so far, of all ranks, whose features were there already."""
        if self._features is None:
            return {}
        found, met = sum_over_ranks(self._features.counts, self._engine.device)
        return {"features_kept": found / met} if met else {}

    def _update(self, share: SharedBatches, tokens: int, speed: UpdateSpeed) -> UpdateReport:
        from actors.training.update import Update

        loss = AnswerLoss(self._job.loss, self._critical)
        update = Update(self._engine, tokens, loss.figures)
        for packed in self._packed(share):
            speed.add(packed)
            if self._reference is not None:  # it chooses experts itself, as one elsewhere does
                asked = replace(packed, experts=None)
                packed = replace(packed, reference_logprobs=self._reference(asked))
            update.add(packed, loss)
        report = update.finish()
        answers = loss.answers if self._tells else {}
        return replace(report, metrics=told_apart(report.metrics), answers=answers)

    @torch.no_grad()
    def logprobs(self, share: SharedBatches) -> dict[int, tuple[float, ...]]:
        """Logprobs in nats of each answer's tokens, by the answer's index; of ranks that share rows
        the first tells them."""
        from models.policy.policy import logprobs_by_answer

        found: dict[int, tuple[float, ...]] = {}
        for packed in self._packed(share):
            packed = packed.to(self._engine.device)
            found |= logprobs_by_answer(packed, self._engine.forward(packed)[0])
        return found if self._tells else {}

    @property
    def _tells(self) -> bool:
        """Whether this rank is the first of those that share its rows."""
        return self._rank % self._job.learner.ranks_per_row == 0

    def _packed(self, share: SharedBatches) -> Iterator[PackedBatch]:
        """The micro-batches; the next one's images become tiles while the model works on one."""
        return prefetch(self._pool, self._pack, share.open())

    def _pack(self, batch: MicroBatch) -> PackedBatch:
        read = self._features or self._encoder.pixels
        return pack(batch, self._encoder.pad_id, read([row.problem for row in batch]))

    def init_weight_transfer(self, meeting: Rendezvous) -> bool:
        """Meet the rollout engines; the next round sends every weight, later ones what learns.

        Called on every rank at the same time, again after an engine was replaced. True where all
        weights learn, so that later rounds send every one, too.
        """
        from actors.weight_transfer.sender import WeightSender

        if self._sender is not None:
            self._sender.close()
        self._sender = None
        engine = self._engine
        with self._tower.attached() if self._tower else nullcontext():
            weights = engine.weights()
        self._sender = WeightSender(
            meeting,
            weights,
            self._rank,
            engine.gathered,
            precision=getattr(torch, self._job.engine_dtype),
        )
        return self._sender.always_sends_all

    def send_weights(self) -> WeightSums:
        """Send the weights; (sum, sum of squares) of each as sent, now or in an earlier round."""
        if self._sender is None:
            raise RuntimeError("send_weights() before init_weight_transfer(): no engine listens")
        sums = self._sender.send()
        self._yield_gpu()  # buffers that weights were gathered in
        if self._rank == 0:
            self._metrics.count("sync_bytes", self._sender.bytes_sent)
        return sums

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

        export_policy(self._engine, self._encoder, self._job.folder, folder, self._tower)
