"""A policy from its checkpoint: loaded, frozen by part, and made ready for training."""

from collections.abc import Collection, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.core_model_loading import WeightConverter

from configs.schema.learner import LearnerConfig
from configs.schema.policy import ModelConfig, Part, PolicyConfig
from configs.schema.rollout import WHOLE, DistributionConfig
from models.inputs.encoder import InputEncoder, has_vision
from models.policy.lora import add_adapters, is_adapter
from models.policy.parts import part_of
from models.policy.policy import Policy


def build_policy(
    model: Any,
    config: ModelConfig,
    encoder: InputEncoder,
    *,
    learner: LearnerConfig,
    distribution: DistributionConfig = WHOLE,
    learns: bool = True,
) -> Policy:
    """A loaded model as a policy, with what the recipe trains unless it `learns` nothing.

    `distribution`: what the sampler draws from.
    """
    if learns:
        assert isinstance(config, PolicyConfig), "says what learns"
        prepare_to_learn(model, config)
    if learns and learner.gradient_checkpointing:
        recompute_activations(model)
    return Policy(model, encoder, chunk=learner.logprob_chunk, distribution=distribution)


def load_model(config: ModelConfig, folder: str | Path, *, as_saved: bool = False) -> Any:
    """The transformers model in `folder`, in the recipe's precision; SDPA attention, but for what
    policy.vision_attention says of the tower.

    `as_saved`: in the precision of its files. Its weights then are pages of the files, which all
    processes of a node share, and take no memory of their own until `take_weight` is asked for one,
    as whoever deals them out over ranks does.
    """
    trust = {"trust_remote_code": config.trust_remote_code}
    hf_config = AutoConfig.from_pretrained(folder, **trust)
    dtype = getattr(torch, config.dtype)
    attention: str | dict[str, str] = "sdpa"
    vision = config.vision_attention if isinstance(config, PolicyConfig) else attention
    if vision != attention:
        attention = {"": attention, "vision_config": vision}
    read = partial(
        model_class(hf_config).from_pretrained,
        folder,
        attn_implementation=attention,
        use_safetensors=True,
        **trust,
    )
    if not as_saved:
        return read(dtype=dtype)
    with _joined_later():
        return read(dtype="auto")


_JOIN = "join_pieces"
"""A parameter's attribute: makes its weight of the pieces that it has in the files."""


@contextmanager
def _joined_later() -> Generator[None]:
    """While a model is read, weights that lie in pieces in its files are not joined.

    transformers joins a layer's experts by stacking them, so a rank would have a copy of them all
    in memory of its own. Here such a parameter repeats a single number, without memory, and knows
    its pieces, which are pages of the files.
    """
    convert = WeightConverter.convert

    def later(self: WeightConverter, name: str, model: Any = None, **given: Any) -> Any:
        if len(self.target_patterns) > 1 or "*" in name:  # cut, not joined
            return convert(self, name, model=model, **given)
        pieces = self.collected_tensors = self.materialize_tensors()
        one = next(iter(pieces.values()))[0]
        shape = model.get_parameter(name).shape
        blank = nn.Parameter(
            torch.zeros((), dtype=one.dtype).expand(shape), one.is_floating_point()
        )
        setattr(blank, _JOIN, partial(convert, self, name, model=model, **given))
        return {name: blank}

    WeightConverter.convert = later
    try:
        yield
    finally:
        WeightConverter.convert = convert


def take_weight(parameter: nn.Parameter, dtype: torch.dtype) -> None:
    """Give a parameter of a model that was read `as_saved` memory of its own, in `dtype`."""
    join = vars(parameter).pop(_JOIN, None)
    if join is None:
        parameter.data = parameter.data.to(dtype, copy=True)
        return
    (joined,) = join().values()
    whole: Tensor = joined[0] if isinstance(joined, list) else joined
    parameter.data = whole.to(dtype)


def model_class(config: Any) -> Any:
    """transformers' auto class for a model of this config."""
    return AutoModelForImageTextToText if has_vision(config) else AutoModelForCausalLM


def load_learning_model(config: PolicyConfig, folder: str | Path) -> Any:
    """The model in `folder`, made ready to learn what the recipe says."""
    model = load_model(config, folder)
    prepare_to_learn(model, config)
    return model


def prepare_to_learn(model: Any, config: PolicyConfig) -> None:
    """Add the recipe's adapters to `model`, and freeze everything but what shall learn."""
    if config.lora is not None:
        head = model.get_output_embeddings()
        linears = [
            name
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear)
            and module is not head
            and part_of(f"{name}.") == "language"
        ]
        add_adapters(model, config.lora, linears)
    freeze(model, config.train)


def freeze(model: nn.Module, train: Collection[Part]) -> None:
    """Let only the named parts learn; a language model with adapters learns by them alone.

    Raises:
        ValueError: the model has no parameter in any of them.
    """
    adapted = any(is_adapter(name) for name, _ in model.named_parameters())
    for name, parameter in model.named_parameters():
        part = part_of(name)
        own = adapted and part == "language" and not is_adapter(name)
        parameter.requires_grad_(part in train and not own)
    if not any(p.requires_grad for p in model.parameters()):
        found = sorted({part_of(name) for name, _ in model.named_parameters()})
        raise ValueError(
            f"policy.train={list(train)} leaves nothing to learn: the model has the parts {found}"
        )


def recompute_activations(model: Any) -> None:
    """Let the model's layers keep no activations and make them again in the backward pass.

    transformers does so in training mode only, which would also switch dropout on: the sampler
    knows none, so it is set to 0.
    """
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.0
