"""One DeepSpeed rank that learns from chats."""

import shutil
import time
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from actors.training.collectives import sum_over_ranks
from actors.training.deepspeed_engine import DeepSpeedEngine
from actors.training.export import export_policy
from actors.training.update import Update
from models.inputs.chat_loader import PackedChatLoader, PackPlan, ReadyPack
from models.inputs.encoder import InputEncoder
from models.policy.features import FeatureCache, FeatureStore, FrozenTower
from models.policy.loading import load_policy
from rl.algorithms.sft import SFTJob, StepResult
from rl.data.chats import ChatSet
from rl.run_log.samples import LoggedChat
from rl.storage.atomic import atomic_folder, link_or_copy
from rl.storage.checkpoints import Checkpoint, Checkpoints
from rl.storage.run_folder import save_recipe

_SURPRISES = 3


class SFTRank:
    """The policy's shard on this worker, and its share of every step."""

    def __init__(
        self, job: SFTJob, checkpoints: Checkpoints, first: int, store: FeatureStore | None
    ) -> None:
        """Needs an initialised process group.

        `first`: the step that comes first; `store`: where features of images are kept, None where
        the tower runs at each step.
        """
        recipe = job.recipe
        self._job = job
        self._checkpoints = checkpoints
        self._rank = dist.get_rank()
        self._encoder = InputEncoder(
            recipe.policy.path, recipe.encoding, recipe.policy.trust_remote_code
        )
        policy = load_policy(
            recipe.policy,
            recipe.policy.path,
            self._encoder,
            learner=recipe.learner,
            temperature=1.0,
        )
        self._tower: FrozenTower | None = None
        self._features: FeatureCache | None = None
        if store is not None:
            self._tower = policy.detach_vision_tower(torch.device(job.device))
            self._features = FeatureCache(self._tower, self._encoder, store)
        self._engine = DeepSpeedEngine(policy, recipe.learner, recipe.policy.dtype, job.steps)
        chats = ChatSet.reopen(recipe.data, job.chats, recipe.seed)
        self._feed = self._feed_of(chats)
        self._stream = self._feed.packs(
            (step, job.window(chats.cursor, step)) for step in range(first, job.steps)
        )
        self._held_out: PackedChatLoader | None = None
        if job.held_out is not None and recipe.evaluation.data is not None:
            self._held_out = self._feed_of(
                ChatSet.reopen(recipe.evaluation.data, job.held_out, recipe.seed)
            )

    def _feed_of(self, chats: ChatSet) -> PackedChatLoader:
        learner = self._job.recipe.learner
        plan = PackPlan(
            learner.max_tokens_per_microbatch, learner.packing, self._rank, learner.ranks
        )
        return PackedChatLoader(chats, self._encoder, plan, self._features)

    def update(self, step: int) -> StepResult:
        """One step of the optimiser over all ranks' packs of `step`.

        The loss is the sum over the trained tokens of all ranks divided by their number.
        """
        began = time.perf_counter()
        head = next(self._stream)
        share = head.share
        assert share.number == step, f"step {step} was fed the chats of step {share.number}"
        real = sum(1 for pack in share.packs if pack)
        trained, tokens, packs = self._sum([share.trained, share.tokens, real])
        update = Update(self._engine, trained)
        seen: list[int] = []
        samples: list[LoggedChat] = []
        for pack in chain([head], islice(self._stream, len(share.packs) - 1)):
            logprobs_N = update.add(pack.packed, lambda _, logprobs_N, *__: (-logprobs_N, {}))
            seen += pack.positions
            samples += self._logged(pack, logprobs_N, len(samples))
        report = update.finish()
        found, met = self._features.counts if self._features else (0, 0)
        times = [float(seen.count(i)) for i in range(len(share.window))]
        found, met, *marks = self._sum([found, met, *times])
        _check_seen(step, marks)
        seconds = time.perf_counter() - began
        metrics = {
            **report.metrics,
            "chats": float(len(share.window)),
            "tokens": tokens,
            "trained_tokens": trained,
            "packs": packs,
            "pack_fill": tokens / (packs * self._job.recipe.learner.max_tokens_per_microbatch),
            "seconds": seconds,
            "tokens_per_s": tokens / seconds,
        }
        if met:
            metrics["features_kept"] = found / met
        report = replace(report, metrics=metrics)
        return StepResult(report, self._feed.rows(share.window), samples)

    def _sum(self, values: list[float]) -> list[float]:
        return sum_over_ranks(values, self._engine.device)

    def _logged(self, ready: ReadyPack, logprobs_N: Tensor, before: int) -> list[LoggedChat]:
        """The pack's chats for the run's log, as many as the recipe wants beside `before`."""
        wanted = self._job.recipe.log.samples_per_step
        room = None if wanted is None else max(0, wanted - before)
        if self._rank != 0:
            room = 0
        share, packed = ready.share, ready.packed
        values_N = logprobs_N.cpu()
        logged: list[LoggedChat] = []
        for number, position in enumerate(ready.positions[:room]):
            own_N = (packed.answers == number) & (packed.weights > 0)
            own, ids = values_N[own_N], packed.targets[own_N]
            least = own.argsort()[:_SURPRISES]
            logged.append(
                LoggedChat(
                    share.chats[position],
                    tokens=len(share.tokenised[position].ids),
                    trained_tokens=len(own),
                    loss=-own.mean().item(),
                    least_likely=tuple(
                        (self._encoder.tokenizer.decode([ids[i].item()]), own[i].exp().item())
                        for i in least.tolist()
                    ),
                )
            )
        return logged

    @torch.no_grad()
    def held_out_loss(self) -> float:
        """Nats a trained token of the held-out chats, the same on every rank."""
        assert self._held_out is not None and self._job.held_out is not None
        chats = len(self._job.held_out.numbers)
        window = range(min(chats, self._job.recipe.evaluation.chats or chats))
        loss, tokens = 0.0, 0.0
        for pack in self._held_out.packs([(0, window)]):
            batch = pack.packed.to(self._engine.device)
            logprobs_N, *_ = self._engine.forward(batch)
            loss -= (logprobs_N * batch.weights).sum().item()
            tokens += batch.weights.sum().item()
        loss, tokens = self._sum([loss, tokens])
        return loss / tokens

    def save(self, step: int) -> None:
        """Write the ranks' state and the policy behind `step` updates, whole or not at all."""

        def fill(checkpoint: Checkpoint) -> None:
            dist.barrier()  # rank 0 has made the folder
            self._engine.save(checkpoint.learner)
            self._export(checkpoint.policy)
            if self._rank == 0:
                save_recipe(self._job.recipe, checkpoint.folder)
            dist.barrier()  # every rank has written its part

        if self._rank == 0:
            self._checkpoints.write(step, fill)
        else:
            fill(self._checkpoints.aside(step))
        dist.barrier()  # it has its name

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint."""
        self._engine.restore(checkpoint.learner)

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
        for feed in (self._feed, self._held_out):
            if feed is not None:
                feed.close()
        self._engine.close()

    @property
    def _best(self) -> Path:
        return self._job.recipe.run_folder / "best"

    def _export(self, folder: Path) -> None:
        source = self._job.recipe.policy.path
        export_policy(self._engine, self._encoder, source, folder, self._tower)


def _check_seen(step: int, marks: list[float]) -> None:
    """Every chat of a step was learned from by exactly one rank."""
    wrong = [position for position, times in enumerate(marks) if times != 1]
    if wrong:
        raise RuntimeError(
            f"step {step}: chats at positions {wrong[:5]} were learned from "
            f"{[int(marks[i]) for i in wrong[:5]]} times instead of once; ranks disagree about "
            "the plan, so give every node the same files and the same version of this package"
        )
