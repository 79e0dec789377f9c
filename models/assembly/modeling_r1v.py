"""R1V with a vision encoder other than InternVL's own, such as SigLIP or CLIP.

This file lies beside the weights of such a model, so that transformers and vLLM can read them
(`trust_remote_code=True`); it needs nothing but transformers. All of it is InternVL's but for the
encoder's config, which transformers' InternVL would take for that of its own encoder.
"""

from typing import Any

from torch import nn
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLModel,
    PreTrainedModel,
)


class R1VConfig(InternVLConfig):
    """InternVL's config around any vision encoder that transformers knows."""

    model_type = "r1v"
    sub_configs = {"text_config": AutoConfig, "vision_config": AutoConfig}  # noqa: RUF012

    def __post_init__(self, **kwargs: Any) -> None:
        if isinstance(self.vision_config, dict):
            kind = self.vision_config["model_type"]
            self.vision_config = CONFIG_MAPPING[kind](**self.vision_config)
        super().__post_init__(**kwargs)


class R1VModel(InternVLModel):
    """Encoder, projector and language model without its head."""

    config_class = R1VConfig
    config: R1VConfig


class R1VForConditionalGeneration(InternVLForConditionalGeneration):
    """The whole model."""

    config_class = R1VConfig
    config: R1VConfig

    def __init__(self, config: R1VConfig) -> None:
        # InternVL's own would put an InternVLModel here, for which transformers renames weights on
        # their way to disk; vLLM reads this model by the names that its modules have.
        PreTrainedModel.__init__(self, config)
        self.model = R1VModel(config)
        text: Any = config.text_config
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        self.post_init()
