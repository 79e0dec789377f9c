"""The reference policy: logprobs of the frozen start policy, for the KL term."""

from collections.abc import Iterator
from pathlib import Path

import torch

from actors.cluster.actor_names import NamedActor
from actors.cluster.object_refs import SharedBatches
from configs.schema.data import PromptConfig
from configs.schema.learner import LearnerConfig
from configs.schema.policy import ModelConfig
from configs.schema.rollout import DistributionConfig
from models.inputs.encoder import InputEncoder
from models.inputs.packing import PackedBatch, pack
from rl.algorithms.rows import TrainingRow, split_row


class FrozenPolicy(NamedActor):
    """A policy that never learns."""

    def __init__(
        self,
        folder: str | Path,
        model: ModelConfig,
        prompt: PromptConfig,
        *,
        learner: LearnerConfig,
        distribution: DistributionConfig,
        device: str,
    ) -> None:
        """`distribution`: what the sampler draws from; sizes of passes and chunks as the
        learner's."""
        from models.policy.loading import build_policy, load_model

        self._encoder = InputEncoder(folder, prompt, model.trust_remote_code)
        self._device = torch.device(device)
        self._max_tokens = learner.max_tokens_per_microbatch
        self._policy = build_policy(
            load_model(model, folder),
            model,
            self._encoder,
            learner=learner,
            distribution=distribution,
            learns=False,
        )
        self._policy.to(self._device).eval()

    def _batches(self, row: TrainingRow) -> Iterator[PackedBatch]:
        """The row's answers as passes of the recipe's size, on the device."""
        pixels = self._encoder.pixels([row.problem])
        for piece in split_row(row, self._max_tokens):
            yield pack((piece,), self._encoder.pad_id, pixels).to(self._device)


class ReferencePolicy(FrozenPolicy):
    """The start policy. A plain class; the cluster makes it a Ray actor."""

    @torch.no_grad()
    def logprobs(self, share: SharedBatches) -> tuple[tuple[float, ...], ...]:
        """Logprobs in nats of each answer's tokens, in the order of the one row's answers."""
        from models.policy.policy import logprobs_by_answer

        (((row,),),) = (share.open(),)
        found: dict[int, tuple[float, ...]] = {}
        for batch in self._batches(row):
            found |= logprobs_by_answer(batch, self._policy(batch)[0])
        return tuple(found.values())
