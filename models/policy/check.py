"""Looks at a recipe's policy before anything is started."""

from pathlib import Path

from safetensors import safe_open
from transformers import AutoConfig, PreTrainedConfig

from configs.schema.policy import ModelConfig, PolicyConfig
from models.inputs.encoder import has_vision
from rl.console.errors import UserError, as_user_error


def read_config(policy: ModelConfig, key: str = "policy.path") -> PreTrainedConfig:
    """The config of the checkpoint at `policy.path`; `key`: what the recipe calls it.

    Raises:
        UserError: there is no such checkpoint, it cannot be read, or its weights are pickles.
    """
    path = Path(policy.path)
    local = policy.path.startswith((".", "/", "~")) or policy.path.count("/") > 1
    if local and not path.is_dir():
        raise UserError(
            f"{key}={policy.path!r} cannot be read: there is no folder {path.absolute()}; "
            "correct the path"
        )
    pickles = [*path.glob("*.bin"), *path.glob("*.pt"), *path.glob("*.pth")]
    if pickles and not any(path.glob("*.safetensors")):
        raise UserError(
            f"{key}={policy.path!r} holds its weights as {pickles[0].name}, a pickle, which can "
            "run code as it is read: where you trust it, write the weights as safetensors first, "
            "as transformers' save_pretrained does"
        )
    try:
        return AutoConfig.from_pretrained(policy.path, trust_remote_code=policy.trust_remote_code)
    except (OSError, ValueError) as error:
        raise UserError(f"{key}={policy.path!r} cannot be read: {error}") from None


def check_policy(policy: PolicyConfig) -> PreTrainedConfig:
    """The config of the checkpoint at `policy.path`, once it can be read and has what shall learn.

    Only the config is read; for adapters' targets the model is built, without weights.

    Raises:
        UserError: there is no such checkpoint, or it has none of the parts that `policy` names.
    """
    config = read_config(policy)
    if not has_vision(config) and "language" not in policy.train:
        raise UserError(
            f"policy.train={list(policy.train)} leaves nothing to learn: {policy.path!r} is a "
            "language model alone; set policy.train=[language]"
        )
    if not has_vision(config) and policy.vision_attention != "sdpa":
        raise UserError(
            f"policy.vision_attention={policy.vision_attention}: {policy.path!r} is a language "
            "model alone, without a vision tower; leave the key out"
        )
    if policy.lora is not None:
        # Only then: it brings all model code along, which takes a driver seconds.
        from models.policy.memory import MemoryEstimator

        with as_user_error():
            MemoryEstimator(config, policy)
    return config


def check_experts(folder: Path, config: PreTrainedConfig) -> None:
    """Check that engines read the experts of a checkpoint as learners do; only shapes are read.

    Raises:
        UserError: they lie as [expert, out, in], as transformers' own `save_pretrained` writes
            those of Qwen3-VL: it reads them so, too, and engines take them for [expert, in, out].
    """
    text = config.get_text_config()
    if text.model_type != "qwen3_vl_moe_text":
        return
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="numpy") as weights:
            names = list(weights.keys())
            named = [name for name in names if name.endswith(".experts.down_proj")]
            shapes = [weights.get_slice(name).get_shape() for name in named[:1]]
        if shapes and shapes[0][1] != text.moe_intermediate_size:
            raise UserError(
                f"policy.path: {named[0]} in {file} is {shapes[0]}, turned round from how Qwen3-VL "
                f"was published ([experts, {text.moe_intermediate_size}, {text.hidden_size}]), as "
                "transformers' save_pretrained writes it and engines do not read it; take the "
                "published checkpoint, or one that a run here exported"
            )
