"""How much GPU memory a policy takes, told from its config alone: nothing is loaded.

Rough, and meant to be: it tells a recipe that cannot work from one that can. Sizes in GiB a GPU.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from configs.schema.learner import LearnerConfig
from configs.schema.policy import Part, PolicyConfig
from configs.schema.rollout import EngineConfig, engine_dtype
from models.policy.attention import by_spans
from models.policy.families import check_sequence_parallel
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
_SUB_GROUP = 10**9
"""Weights that ZeRO 3 steps at a time (DeepSpeed's default)."""
_CACHED_BYTES: dict[str, tuple[float, int]] = {
    **dict.fromkeys(("float16", "bfloat16"), (2.0, 0)),
    **dict.fromkeys(("fp8", "fp8_e4m3", "fp8_e5m2", "fp8_inc"), (1.0, 0)),
    **dict.fromkeys(("int8_per_token_head", "fp8_per_token_head"), (1.0, 4)),
    "int4_per_token_head": (0.5, 4),
    **dict.fromkeys(("nvfp4", "nvfp4_4over6"), (0.5 + 1 / 16, 0)),
}
"""Of a number in vLLM's cache, and of the scale beside a head's numbers of one token, by vLLM's
kv_cache_dtype. Others are counted as the engine's weights, which is too much."""


@dataclass(frozen=True, slots=True)
class LearnerMemory:
    """What one learner rank holds."""

    weights: float
    gradients: float
    optimizer: float
    bucket: float
    """Of gradients on their way, where it stays."""
    buffers: float
    """Gathered weights, and communication that comes and goes."""
    activations: float
    """Of the language model on a full micro-batch, and of the tower on its images."""
    logits: float
    """Of a chunk of positions."""
    step: float
    """What the optimizer's step takes beside gradients and state, once activations are gone."""
    host_optimizer: float = 0.0
    """On the host: the optimizer's state, where it is kept there."""
    host_gradients: float = 0.0
    """Then their sums, with the copies that travel."""
    host_weights: float = 0.0
    """And so the weights."""

    @property
    def total(self) -> float:
        """All that lies on the GPU, in the fuller of backward pass and optimizer's step."""
        state = self.weights + self.gradients + self.optimizer + self.bucket
        return state + max(self.buffers + self.activations + self.logits, self.step)


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

    @cached_property
    def largest(self) -> int:
        """Bytes of the largest weight, which is an embedding nearly always."""
        return self._bytes * max(p.numel() for p in self._model.parameters())

    @property
    def key_heads(self) -> int:
        """Heads of keys and values."""
        return getattr(self.text, "num_key_value_heads", None) or self.text.num_attention_heads

    @property
    def whole(self) -> float:
        """GiB of all weights, as a frozen policy on one GPU holds them."""
        return self._bytes * sum(self.sizes.values()) / _GIB

    @property
    def longest_context(self) -> int | None:
        """Tokens that the language model has positions for, stretched ones included; None: its
        config does not say."""
        rope = getattr(self.text, "rope_parameters", None) or {}
        positions = getattr(self.text, "max_position_embeddings", None)
        stretched = rope.get("original_max_position_embeddings", 0) * rope.get("factor", 0)
        return positions and max(positions, int(stretched))

    @property
    def pixels_per_image_token(self) -> int:
        """Pixels of an image (width x height) that one token of the language model stands for."""
        side = getattr(self._vision, "patch_size", 0) or 0
        side = side[0] if isinstance(side, list | tuple) else side
        return side * side * self._patches_per_token

    @property
    def tokens_per_tile(self) -> int | None:
        """Image tokens of one tile, where a tower reads images in tiles of one size; None: their
        number follows the image's own size."""
        tiled = getattr(self._model.config, "downsample_ratio", None) is not None
        return self._model.config.image_seq_length if tiled else None

    @cached_property
    def _vision(self) -> Any:
        return getattr(self._model.config, "vision_config", None)

    @property
    def _patches_per_token(self) -> int:
        """Patches of the tower that are merged into one token."""
        whole, tower = self._model.config, self._vision
        merge = getattr(tower, "spatial_merge_size", None) or getattr(whole, "scale_factor", None)
        if ratio := getattr(whole, "downsample_ratio", None):
            merge = 1 / ratio
        return round((merge or 1) ** 2)

    def learner(self, config: LearnerConfig, image_tokens: int = 0) -> LearnerMemory:
        """What one rank of the recipe's learner holds; `image_tokens`: most of a micro-batch.

        Raises:
            DoesNotFit: ranks cannot share the policy's rows, and shall.
        """
        check_sequence_parallel(self._model.config, config.ranks_per_row)
        total, stage, size = sum(self.sizes.values()), config.zero_stage, self._bytes

        def over_ranks(elements: int, from_stage: int) -> float:
            return elements / (config.ranks if stage >= from_stage else 1) / _GIB

        optimizer = _OPTIMIZER_BYTES * over_ranks(self.learning, 1)
        gradients = (_SUM_BYTES if stage else size) * over_ranks(self.learning, 2)
        weights, away = size * over_ranks(total, 3), config.offloads_weights
        return LearnerMemory(
            weights=0.0 if away else weights,
            gradients=0.0 if config.offload else gradients,
            optimizer=0.0 if config.offload else optimizer,
            bucket=self._buckets(config) if stage == 3 else 0.0,
            buffers=self.gathered(config) if stage == 3 else self._buckets(config),
            activations=self._activations(config)
            + self._tower_activations(config, image_tokens, "vision" in self._policy.train),
            logits=self.logits(config),
            step=0.0 if config.offload else self._step(config),
            host_optimizer=optimizer if config.offload else 0.0,
            host_gradients=self._host_gradients(config) if config.offload else 0.0,
            host_weights=weights if away else 0.0,
        )

    def gathered(self, config: LearnerConfig) -> float:
        """GiB of weights that a rank of ZeRO 3 holds whole at a time."""
        most = _setting(config, "stage3_max_live_parameters", _LIVE_PARAMETERS)
        return self._bytes * min(most, sum(self.sizes.values())) / _GIB

    def _buckets(self, config: LearnerConfig) -> float:
        """GiB of gradients on their way, whole from ZeRO 2 on; but for ZeRO 3 a second bucket fills
        while the first one travels."""
        stage, most = config.zero_stage, _setting(config, "reduce_bucket_size", _BUCKET)
        if stage < 3 and config.zero_optimization.get("overlap_comm"):
            most *= 2
        return self._bytes * (most if stage > 1 else min(most, self.learning)) / _GIB

    def _step(self, config: LearnerConfig) -> float:
        """GiB of an optimizer's step: AdamW's square root of the second moment, or before it a
        weight's gradient in float64 for its norm; ZeRO 3: of a part, and its gradient flat."""
        share = self.learning / (config.ranks if config.zero_stage else 1)
        if config.zero_stage == 3:
            part = min(share, _setting(config, "sub_group_size", _SUB_GROUP))
            return 2 * _SUM_BYTES * part / _GIB
        return max(_SUM_BYTES * share, 8 * min(share, self.largest / self._bytes)) / _GIB

    def _host_gradients(self, config: LearnerConfig) -> float:
        """GiB of a rank's sums: ZeRO 3 has them as they come and as they are stepped by; ZeRO 2 in
        float32, and in the policy's precision both them and the weights that were stepped."""
        each = 2 * _SUM_BYTES if config.zero_stage == 3 else _SUM_BYTES + 2 * self._bytes
        return each * self.learning / config.ranks / _GIB

    def reading(self, config: LearnerConfig, image_tokens: int = 0) -> float:
        """GiB that a frozen policy takes beside its weights to read a micro-batch: one layer."""
        text, tokens = self.text, config.max_tokens_per_microbatch
        shape = (text.hidden_size, text.intermediate_size)
        language = self._kept(tokens, 0, *shape, checkpointing=True)
        return language + self._tower_activations(config, image_tokens, learns=False)

    def _activations(self, config: LearnerConfig) -> float:
        text, tokens = self.text, config.max_tokens_per_microbatch
        shape = (text.num_hidden_layers, text.hidden_size, text.intermediate_size)
        mask = 0.0 if by_spans(self._model.config) else tokens**2 * (1 + self._bytes) / _GIB
        own = -(-tokens // config.ranks_per_row)
        kept = self._kept(own, *shape, checkpointing=config.gradient_checkpointing) + mask
        if config.ranks_per_row == 1:
            return kept
        # Each rank embeds the whole row, and has the gradient of it.
        return kept + 2 * tokens * text.hidden_size * self._bytes / _GIB

    def _tower_activations(self, config: LearnerConfig, image_tokens: int, learns: bool) -> float:
        """A tower that is frozen keeps nothing: one layer is there at a time."""
        tower = self._vision
        if tower is None or not image_tokens:
            return 0.0
        layers = getattr(tower, "num_hidden_layers", None) or getattr(tower, "depth", 0)
        wide = getattr(tower, "intermediate_size", None) or 4 * tower.hidden_size
        return self._kept(
            image_tokens * self._patches_per_token,
            layers if learns else 0,
            tower.hidden_size,
            wide,
            checkpointing=config.gradient_checkpointing or not learns,
        )

    def _kept(
        self, tokens: int, layers: int, hidden: int, wide: int, *, checkpointing: bool
    ) -> float:
        """GiB that layers keep for the backward pass: each its input and one all of its own, or,
        without checkpointing, each all of its own."""
        # Of one that is read: normed twice, q, k, v, attended, summed twice; gate, up, product.
        each = tokens * self._bytes / _GIB
        if not layers:
            return each * (8 * hidden + 3 * wide)
        # Of one that learns, measured: kept with float32 copies of norms; then gradients as well.
        kept, passed = each * (12 * hidden + 4 * wide), each * 2 * wide
        return (each * layers * hidden + kept if checkpointing else layers * kept) + passed

    def logits(self, config: LearnerConfig) -> float:
        """GiB of a chunk of positions, measured: of each token of the vocabulary its logprob and
        three numbers of the entropy or the gradient, all float32."""
        return 4 * 4 * config.logprob_chunk * self.text.vocab_size / _GIB

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
        size = getattr(torch, engine_dtype(self._policy, config)).itemsize
        kind = str(config.engine_args.get("kv_cache_dtype", "auto"))
        number, scale = _CACHED_BYTES.get(kind, (size, 0))
        heads_of_all = 2 * self.text.num_hidden_layers * own_heads * longest
        cache = heads_of_all * (head_dim * number + scale)
        return EngineMemory(size * weights / _GIB, cache / _GIB)


def _setting(config: LearnerConfig, name: str, default: int) -> float:
    """A number of DeepSpeed's zero_optimization, which refuses itself what is none."""
    value = config.zero_optimization.get(name, default)
    return value if isinstance(value, int | float) else default
