"""A vLLM logits processor that keeps the policy from sampling image tokens."""

from collections.abc import Mapping

import torch
from torch import Tensor
from vllm.config import VllmConfig
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor

from actors.rollout.vllm_engine import BANNED_KEY


class BannedTokens(LogitsProcessor):
    """Gives tokens that only the image expansion may write the probability 0, in every request."""

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        config = vllm_config.additional_config
        ids = config.get(BANNED_KEY, []) if isinstance(config, Mapping) else []
        self._banned = torch.tensor(ids, dtype=torch.int64, device=device)

    def apply(self, logits: Tensor) -> Tensor:
        """logits: float32 [requests, vocabulary], changed in place."""
        return logits.index_fill_(1, self._banned, float("-inf"))

    def is_argmax_invariant(self) -> bool:
        """False: greedy answers must not hold these tokens either."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """The ban is the same for every request."""
