"""The reference policy: logprobs of the frozen start policy, for the KL term."""

from pathlib import Path

import torch

from actors.cluster.object_refs import SharedBatches
from configs.jobs.grpo import PolicyConfig
from configs.schema.data import PromptConfig
from configs.schema.learner import LearnerConfig
from models.inputs.encoder import InputEncoder
from models.inputs.packing import pack
from rl.algorithms.rows import split_row


class ReferencePolicy:
    """A policy that never learns. A plain class; the cluster makes it a Ray actor."""

    def __init__(
        self,
        folder: Path,
        policy: PolicyConfig,
        prompt: PromptConfig,
        *,
        learner: LearnerConfig,
        temperature: float,
        device: str,
    ) -> None:
        """`temperature` as the sampler's; sizes of passes and chunks as the learner's."""
        from models.policy.loading import load_policy

        self._encoder = InputEncoder(folder, prompt, policy.trust_remote_code)
        self._device = torch.device(device)
        self._max_tokens = learner.max_tokens_per_microbatch
        self._policy = load_policy(
            policy, folder, self._encoder, learner=learner, temperature=temperature, learns=False
        )
        self._policy.to(self._device).eval()

    @torch.no_grad()
    def logprobs(self, share: SharedBatches) -> tuple[tuple[float, ...], ...]:
        """Logprobs in nats of each answer's tokens, in the order of the one row's answers."""
        from models.policy.policy import logprobs_by_answer

        (((row,),),) = (share.open(),)
        pixels = self._encoder.pixels([row.problem])
        found: dict[int, tuple[float, ...]] = {}
        for piece in split_row(row, self._max_tokens):
            batch = pack((piece,), self._encoder.pad_id, pixels).to(self._device)
            found |= logprobs_by_answer(batch, self._policy(batch)[0])
        return tuple(found.values())
