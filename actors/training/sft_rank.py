"""One DeepSpeed rank that learns from chats."""

import shutil
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import timedelta
from itertools import chain, islice
from pathlib import Path

import torch
import torch.distributed as dist

from actors.cluster.metrics import Metrics
from actors.training.collectives import sum_over_ranks
from actors.training.deepspeed_engine import DeepSpeedEngine
from actors.training.export import export_policy
from actors.training.objectives import Likelihood, Objective, Preference
from actors.training.references import reference_logprobs
from actors.training.speed import UpdateSpeed, peak_memory_bytes
from actors.training.step_trace import traced_update
from actors.training.update import Update
from configs.jobs.mpo import MPORecipe
from models.inputs.chat_loader import PackedChatLoader, PackPlan
from models.inputs.encoder import InputEncoder
from models.policy.features import FeatureCache, FeatureStore, FrozenTower
from models.policy.flops import TrainingFlops, peak_flops
from models.policy.loading import build_policy, load_model
from models.sequence_parallel.group import SequenceGroup
from rl.algorithms.sft import SFTJob, StepResult
from rl.data.chats import ChatSet
from rl.run_log.samples import Logged
from rl.storage.atomic import atomic_folder, link_or_copy
from rl.storage.checkpoints import Checkpoint, Checkpoints
from rl.storage.fingerprint import save_fingerprint
from rl.storage.run_folder import save_recipe


class SFTRank:
    """The policy's shard on this worker, and its share of every step."""

    def __init__(
        self,
        job: SFTJob,
        checkpoints: Checkpoints,
        first: int,
        store: FeatureStore | None,
        device: torch.device,
    ) -> None:
        """Needs an initialised process group.

        `first`: the step that comes first; `store`: where features of images are kept, None where
        the tower runs at each step; `device`: this worker's own, with its number.
        """
        recipe = job.recipe
        self._job = job
        self._checkpoints = checkpoints
        self._rank = dist.get_rank()
        self._encoder = InputEncoder(
            recipe.policy.path, recipe.encoding, recipe.policy.trust_remote_code
        )
        sharded = recipe.learner.zero_stage == 3
        model = load_model(recipe.policy, recipe.policy.path, as_saved=sharded)
        policy = build_policy(model, recipe.policy, self._encoder, learner=recipe.learner)
        self._ranks_per_row = recipe.learner.ranks_per_row
        patience = timedelta(seconds=recipe.learner.timeout_s)
        if group := SequenceGroup.of_size(self._ranks_per_row, patience):
            policy.share_rows(group, self._encoder.pad_id)
        self._tower: FrozenTower | None = None
        self._features: FeatureCache | None = None
        if store is not None:
            self._tower = policy.detach_vision_tower(device, getattr(torch, recipe.policy.dtype))
            self._features = FeatureCache(self._tower, self._encoder, store)
        self._metrics = Metrics(recipe.name)
        self._flops = TrainingFlops(policy.model)
        self._peak_flops = peak_flops(recipe.learner.peak_tflops, recipe.policy.dtype)
        self._engine = DeepSpeedEngine(policy, recipe.learner, recipe.policy.dtype, job.steps)
        chats = ChatSet.reopen(recipe.data, job.chats, recipe.seed)
        self._feed = self._feed_of(chats)
        self._objective = self._objective_of("reference.npy", self._feed, len(chats))
        self._stream = self._feed.packs(
            (step, job.window(chats.cursor, step)) for step in range(first, job.steps)
        )
        self._held_out: tuple[PackedChatLoader, Objective] | None = None
        if job.held_out is not None and recipe.evaluation.data is not None:
            held_out = ChatSet.reopen(recipe.evaluation.data, job.held_out, recipe.seed)
            feed = self._feed_of(held_out)
            self._held_out = (
                feed,
                self._objective_of("reference_held_out.npy", feed, len(held_out), self._objective),
            )

    def _feed_of(self, chats: ChatSet) -> PackedChatLoader:
        learner, shared = self._job.recipe.learner, self._ranks_per_row
        plan = PackPlan(
            learner.max_tokens_per_microbatch,
            learner.packing,
            self._rank // shared,
            learner.ranks // shared,
        )
        return PackedChatLoader(chats, self._encoder, plan, self._features)

    def _objective_of(
        self, file: str, feed: PackedChatLoader, rows: int, learned: Objective | None = None
    ) -> Objective:
        """What `rows` of data are learned by, or asked by beside what is `learned`.

        `file`: where logprobs of the start policy are kept, for who needs them.
        """
        recipe = self._job.recipe
        if not isinstance(recipe, MPORecipe):
            return Likelihood(self._encoder.tokenizer.decode)
        found = reference_logprobs(
            recipe.run_folder / file, self._engine, feed, rows, recipe.batch_size
        )
        delta = learned.delta if isinstance(learned, Preference) else None
        return Preference(recipe.loss, found, delta)

    def update(self, step: int) -> StepResult:
        """One step of the optimiser over all ranks' packs of `step`.

        The loss is the sum over all ranks divided by the objective's weight of them.
        """
        began = time.perf_counter()
        speed = UpdateSpeed(self._flops, self._peak_flops, self._ranks_per_row)
        head = next(self._stream)
        share = head.share
        assert share.number == step, f"step {step} was fed the chats of step {share.number}"
        real = sum(1 for pack in share.packs if pack)
        objective = self._objective
        weight, trained, tokens, packs = self._sum(
            [objective.weight(share), share.trained, share.tokens, real]
        )
        update = Update(self._engine, weight, objective.figures)
        seen: list[int] = []
        samples: list[Logged] = []
        with self._traced():
            for pack in chain([head], islice(self._stream, len(share.packs) - 1)):
                speed.add(pack.packed)
                logprobs_N = update.add(pack.packed, objective.token_loss(pack))
                seen += pack.positions
                if self._rank == 0:
                    most = self._job.recipe.log.samples_per_step
                    room = None if most is None else max(0, most - len(samples))
                    samples += objective.logged(pack, logprobs_N, room)
            report = update.finish()
        found, met = self._features.counts if self._features else (0, 0)
        times = [float(seen.count(i)) for i in range(len(share.window))]
        found, met, *marks = self._sum([found, met, *times])
        _check_seen(step, marks)
        self._metrics.set(
            "learner_memory_bytes", peak_memory_bytes(), worker=f"learner-{self._rank}"
        )
        metrics = {
            **objective.finish(report.metrics),
            "chats": float(len(share.window)),
            "tokens": tokens,
            "trained_tokens": trained,
            "packs": packs,
            "pack_fill": tokens / (packs * self._job.recipe.learner.max_tokens_per_microbatch),
            "seconds": time.perf_counter() - began,
            **speed.metrics(self._engine.device),
        }
        if met:
            metrics["features_kept"] = found / met
        report = replace(report, metrics=metrics)
        return StepResult(report, self._feed.rows(share.window), samples)

    def _traced(self) -> AbstractContextManager[None]:
        """A context that traces the update inside if the recipe asks for it."""
        recipe, step = self._job.recipe, 1 + self._engine.updates
        return traced_update(recipe.learner.profile, step, self._rank, recipe.run_folder / "traces")

    def _sum(self, values: list[float]) -> list[float]:
        """Over all ranks; those that share rows count as one."""
        sums = sum_over_ranks(values, self._engine.device)
        return [total / self._ranks_per_row for total in sums]

    @torch.no_grad()
    def held_out(self) -> Mapping[str, float]:
        """Mean loss on the held-out rows and what the objective tells beside it, alike on all."""
        assert self._held_out is not None and self._job.held_out is not None
        rows = len(self._job.held_out.numbers)
        window = range(min(rows, self._job.recipe.evaluation.chats or rows))
        feed, objective = self._held_out
        sums = dict.fromkeys(("loss", *objective.figures), 0.0)
        weight = 0.0
        for ready in feed.packs([(0, window)]):
            batch = ready.packed.to(self._engine.device)
            loss_N, figures = objective.token_loss(ready)(batch, *self._engine.forward(batch))
            for name, value_N in {"loss": loss_N, **figures}.items():
                sums[name] += (value_N * batch.weights).sum().item()
            weight = objective.weight(ready.share)
        *totals, weight = self._sum([*sums.values(), weight])
        loss, *means = (total / weight for total in totals)
        return objective.held_out(loss, dict(zip(objective.figures, means, strict=True)))

    def save(self, step: int) -> None:
        """Write the ranks' state and the policy behind `step` updates, whole or not at all."""

        def fill(checkpoint: Checkpoint) -> None:
            dist.barrier()  # rank 0 has made the folder
            self._engine.save(checkpoint.learner)
            self._export(checkpoint.policy)
            if self._rank == 0:
                save_recipe(self._job.recipe, checkpoint.folder)
                save_fingerprint(checkpoint.folder, self._job.chats.fingerprints)
                self._objective.save(checkpoint.folder)
            dist.barrier()  # every rank has written its part

        if self._rank == 0:
            self._checkpoints.write(step, fill)
        else:
            fill(self._checkpoints.aside(step))
        dist.barrier()  # it has its name

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint."""
        self._engine.restore(checkpoint.learner)
        self._objective.restore(checkpoint.folder)

    def export_best(self) -> None:
        """Export the policy as the best so far."""
        if self._rank != 0:
            self._export(self._best)  # takes part in the gathering; rank 0 writes
            return
        with atomic_folder(self._best, existing="replace") as aside:
            self._export(aside)

    def publish_final_policy(self) -> None:
        """Make the last step's policy, or the best, the run's own."""
        if self._rank != 0:
            return
        newest = self._checkpoints.newest()
        assert newest is not None, "the last step of a run ends with a checkpoint"
        wants_best = self._job.recipe.evaluation.result == "best" and self._best.is_dir()
        final = self._best if wants_best else newest.policy
        with atomic_folder(self._job.recipe.policy_folder, existing="replace") as aside:
            shutil.copytree(final, aside, copy_function=link_or_copy, dirs_exist_ok=True)

    def close(self) -> None:
        """Let go of threads and of the policy."""
        self._feed.close()
        if self._held_out:
            self._held_out[0].close()
        self._engine.close()

    @property
    def _best(self) -> Path:
        return self._job.recipe.run_folder / "best"

    def _export(self, folder: Path) -> None:
        source = self._job.recipe.policy.path
        export_policy(self._engine, self._encoder, source, folder, self._tower)


def _check_seen(step: int, marks: list[float]) -> None:
    """Every chat of a step was learned from by exactly one rank, or those that share its row."""
    wrong = [position for position, times in enumerate(marks) if times != 1]
    if wrong:
        raise RuntimeError(
            f"step {step}: chats at positions {wrong[:5]} were learned from "
            f"{[int(marks[i]) for i in wrong[:5]]} times instead of once; ranks disagree about "
            "the plan, so give every node the same files and the same version of this package"
        )
