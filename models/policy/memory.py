"""How much GPU memory a policy takes, told from its config alone: nothing is loaded.

Rough, and meant to be: it tells a recipe that cannot work from one that can. Sizes in GiB a GPU.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from transformers import AutoConfig

from configs.schema.learner import LearnerConfig
from configs.schema.policy import Part, PolicyConfig
from configs.schema.rollout import EngineConfig, engine_dtype
from models.policy.loading import model_class, prepare_to_learn
from models.policy.parts import part_of
from rl.console.errors import DoesNotFit

_GIB = 2**30
_OPTIMIZER_BYTES = 12
"""AdamW's two moments and a float32 copy of the weight, for each weight that learns."""
_SUM_BYTES = 4
"""Gradients sum in float32 from ZeRO 1 on."""
_LIVE_PARAMETERS = 10**9
"""Weights that ZeRO 3 holds gathered at a time (DeepSpeed's default)."""
_BUCKET = 5 * 10**8
"""Elements of DeepSpeed's communication buffer (its default)."""


@dataclass(frozen=True, slots=True)
class LearnerMemory:
    """What one learner rank holds."""

    weights: float
    gradients: float
    optimizer: float
    buffers: float
    """Gathered weights and communication."""
    activations: float
    """Of the language model, on a full micro-batch."""

    @property
    def total(self) -> float:
        """All of it."""
        return self.weights + self.gradients + self.optimizer + self.buffers + self.activations


@dataclass(frozen=True, slots=True)
class EngineMemory:
    """What one GPU of an engine holds."""

    weights: float
    """A vision tower counts whole on each GPU, as engines shard only some of it."""
    answer_cache: float
    """Keys and values of the longest prompt and answer."""


class MemoryEstimator:
    """A policy without weights: how many it would have, and its language model's shape."""

    def __init__(self, config: Any, policy: PolicyConfig) -> None:
        """`config`: the transformers config of the policy's checkpoint."""
        with torch.device("meta"):
            model = model_class(config).from_config(
                config, trust_remote_code=policy.trust_remote_code
            )
            prepare_to_learn(model, policy)
        self._model = model
        self.text: Any = config.get_text_config()
        self._policy = policy
        self._bytes = getattr(torch, policy.dtype).itemsize

    @classmethod
    def read(cls, policy: PolicyConfig) -> "MemoryEstimator":
        """That of the recipe's policy.

        Raises:
            OSError: its config is not on this machine.
        """
        trust = {"trust_remote_code": policy.trust_remote_code}
        return cls(AutoConfig.from_pretrained(policy.path, local_files_only=True, **trust), policy)

    @cached_property
    def sizes(self) -> dict[Part, int]:
        """Parameters of each part, adapters among the language model's."""
        sizes: dict[Part, int] = {}
        for name, parameter in self._model.named_parameters():
            sizes[part_of(name)] = sizes.get(part_of(name), 0) + parameter.numel()
        return sizes

    @cached_property
    def learning(self) -> int:
        """Parameters that learn."""
        return sum(p.numel() for p in self._model.parameters() if p.requires_grad)

    @property
    def key_heads(self) -> int:
        """Heads of keys and values."""
        return getattr(self.text, "num_key_value_heads", None) or self.text.num_attention_heads

    @property
    def whole(self) -> float:
        """GiB of all weights, as a frozen policy on one GPU holds them."""
        return self._bytes * sum(self.sizes.values()) / _GIB

    def learner(self, config: LearnerConfig, reference: bool = False) -> LearnerMemory:
        """What one rank of the recipe's learner holds; `reference`: a sharded copy is on it too."""
        total, stage, size = sum(self.sizes.values()), config.zero_stage, self._bytes

        def over_ranks(elements: int, from_stage: int) -> float:
            return elements / (config.ranks if stage >= from_stage else 1) / _GIB

        optimizer = 0.0 if config.offload else _OPTIMIZER_BYTES * over_ranks(self.learning, 1)
        live = min(_LIVE_PARAMETERS, total) if stage == 3 else min(_BUCKET, self.learning)
        return LearnerMemory(
            weights=size * over_ranks(total, 3) + reference * self.whole / config.ranks,
            gradients=(_SUM_BYTES if stage else size) * over_ranks(self.learning, 2),
            optimizer=optimizer,
            buffers=size * live / _GIB,
            activations=self._activations(config),
        )

    def _activations(self, config: LearnerConfig) -> float:
        text, tokens, size = self.text, config.max_tokens_per_microbatch, self._bytes
        # Of one layer: normed twice, q, k, v, attended, summed twice; gate, up and their product.
        layer = tokens * (8 * text.hidden_size + 3 * text.intermediate_size) * size
        kept = text.num_hidden_layers * tokens * text.hidden_size * size + layer
        if not config.gradient_checkpointing:
            kept = text.num_hidden_layers * layer
        logits = 3 * config.logprob_chunk * text.vocab_size * 4
        mask = tokens**2 * (1 + size)
        return (kept + logits + mask) / _GIB

    def engine(self, config: EngineConfig, longest: int) -> EngineMemory:
        """What one GPU of an engine holds; `longest`: tokens of prompt and answer.

        Raises:
            DoesNotFit: attention heads do not divide over the recipe's tensor parallelism.
        """
        width, heads = config.tensor_parallel_size, self.text.num_attention_heads
        if heads % width or (self.key_heads % width and width % self.key_heads):
            fit = [w for w in range(1, heads + 1) if not heads % w and not self.key_heads % w]
            raise DoesNotFit(
                f"rollout.tensor_parallel_size={width} does not divide the policy's {heads} "
                f"attention heads and {self.key_heads} key heads; set it to one of {fit}"
            )
        vision = self.sizes.get("vision", 0)
        weights = vision + (sum(self.sizes.values()) - vision) / width
        own_heads = max(1, self.key_heads // width)
        head_dim = getattr(self.text, "head_dim", None) or self.text.hidden_size // heads
        cache = 2 * self.text.num_hidden_layers * own_heads * head_dim * longest
        size = getattr(torch, engine_dtype(self._policy, config)).itemsize
        return EngineMemory(size * weights / _GIB, size * cache / _GIB)
