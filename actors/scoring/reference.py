"""The reference policy: logprobs of the frozen start policy, for the KL term."""

from pathlib import Path

import torch

from configs.schema.data import PromptConfig
from configs.schema.grpo import PolicyConfig
from configs.schema.learner import LearnerConfig
from models.inputs.encoder import InputEncoder
from models.inputs.packing import pack
from rl.algorithms.rows import TrainingRow, split_row


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
        from models.policy.loading import load_model
        from models.policy.policy import Policy

        self._encoder = InputEncoder(folder, prompt, policy.trust_remote_code)
        self._device = torch.device(device)
        self._max_tokens = learner.max_tokens_per_microbatch
        model = load_model(policy, folder)
        self._policy = Policy(
            model, self._encoder, temperature=temperature, chunk=learner.logprob_chunk
        )
        self._policy.to(self._device).eval()

    @torch.no_grad()
    def logprobs(self, row: TrainingRow) -> tuple[tuple[float, ...], ...]:
        """Logprobs in nats of each answer's tokens, in the order of the row's answers."""
        found: dict[int, list[float]] = {answer.index: [] for answer in row.answers}
        for piece in split_row(row, self._max_tokens):
            batch = pack((piece,), self._encoder.pad_id).to(self._device)
            pixels = self._encoder.pixels([piece.problem]) if self._encoder.has_vision else {}
            moved = {name: value.to(self._device) for name, value in pixels.items()}
            logprobs_N, _ = self._policy(batch, moved)
            for index, value in zip(batch.answers.tolist(), logprobs_N.tolist(), strict=True):
                found[index].append(value)
        return tuple(tuple(values) for values in found.values())
