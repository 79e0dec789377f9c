"""Low-rank adapters on the language model's linear layers (LoRA, arXiv:2106.09685), by peft.

The layers are changed in place, so that the model stays the transformers model that it was. Outside
the learner nobody needs to know of adapters: engines and checkpoints get W + scale * B A, in W's
own name. The adapters lie beside an exported policy as well, in peft's layout: they alone are
exact where the policy is in bfloat16.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any

import peft
import torch
from peft.tuners.lora import LoraLayer
from torch import nn

from configs.schema.policy import LoraConfig

ADAPTER = "default"
"""What peft calls the one adapter of a layer."""

ADAPTER_FILE = "adapter_model.safetensors"
"""What peft calls their file."""

_SEED = 0


def is_adapter(parameter: str) -> bool:
    """Whether a parameter of this name is half of an adapter."""
    return ".lora_A." in parameter or ".lora_B." in parameter


def add_adapters(model: nn.Module, config: LoraConfig, linears: Sequence[str]) -> None:
    """Give those of `linears` whose last name is a target an adapter, which changes nothing yet.

    Equal calls make equal adapters. The caller's random state is left as it was.

    Raises:
        ValueError: a target is the name of none of them.
    """
    last_names = {name: name.rsplit(".", 1)[-1] for name in linears}
    missing = sorted(set(config.targets) - set(last_names.values()))
    if missing or not config.targets:
        raise ValueError(
            f"policy.lora.targets={list(config.targets)}: the language model has no linear layers "
            f"called {missing}; there are {sorted(set(last_names.values()))}"
        )
    adapter = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        target_modules=[name for name, last in last_names.items() if last in config.targets],
    )
    dtype = next(model.parameters()).dtype
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        peft.inject_adapter_in_model(adapter, model, ADAPTER)
    for name, parameter in model.named_parameters():
        if is_adapter(name):  # peft makes them float32, whatever the model is
            parameter.data = parameter.data.to(dtype)


@contextmanager
def adapters_off(model: nn.Module) -> Generator[None]:
    """For a while the model is the one that its adapters change.

    peft's own switch also decides anew what learns, which engines that shard weights cannot follow.
    """
    adapted: list[Any] = [module for module in model.modules() if isinstance(module, LoraLayer)]
    for layer in adapted:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer in adapted:
            layer._disable_adapters = False


def save_adapter_config(model: Any, folder: Path, base: str) -> None:
    """Write what peft reads beside adapters.

    Args:
        model: with the adapters' configuration in its layers.
        folder: to be made.
        base: the checkpoint that they change, as `base_model_name_or_path`.
    """
    folder.mkdir(parents=True)
    config: peft.LoraConfig = model.peft_config[ADAPTER]
    written = copy(config)
    written.base_model_name_or_path = base
    written.inference_mode = True
    written.save_pretrained(str(folder))


def peft_name(parameter: str) -> str:
    """What peft calls half of an adapter in its file."""
    return f"base_model.model.{parameter.replace(f'.{ADAPTER}.', '.')}"
