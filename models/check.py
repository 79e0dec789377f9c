"""Looks at a recipe's policy before anything is started."""

from pathlib import Path

from transformers import AutoConfig, PreTrainedConfig

from configs.policy import PolicyConfig
from models.memory import Skeleton
from rl.refusal import Refusal, refusing


def check_policy(policy: PolicyConfig) -> PreTrainedConfig:
    """The config of the checkpoint at `policy.path`, once it can be read and has what shall learn.

    Only the config is read, and the model built without weights.

    Raises:
        Refusal: there is no such checkpoint, or it has none of the parts that `policy` names.
    """
    path = Path(policy.path)
    local = policy.path.startswith((".", "/", "~")) or policy.path.count("/") > 1
    if local and not path.is_dir():
        raise Refusal(
            f"policy.path={policy.path!r} cannot be read: there is no folder {path.absolute()}; "
            "correct the path"
        )
    try:
        config = AutoConfig.from_pretrained(policy.path, trust_remote_code=policy.trust_remote_code)
    except (OSError, ValueError) as error:
        raise Refusal(f"policy.path={policy.path!r} cannot be read: {error}") from None
    with refusing():
        Skeleton(config, policy)
    return config
