"""Configs of the checkpoints that shipped recipes name, which tests cannot download.

Language models and the towers of Qwen2.5-VL: config.json of the checkpoints on the Hugging Face
hub. InternViT-6B: that of OpenGVLab/InternViT-6B-448px-V1-5, whose shape V2_5 has. InternViT-300M:
OpenGVLab/InternViT-300M-448px-V2_5. Sizes: the checkpoints' model cards.
"""

from dataclasses import dataclass
from typing import Any

from transformers import InternVLConfig, PreTrainedConfig, Qwen2_5_VLConfig, Qwen2Config

INTERNVIT_6B: dict[str, Any] = {
    "hidden_size": 3200,
    "intermediate_size": 12800,
    "num_hidden_layers": 45,
    "num_attention_heads": 25,
    "attention_bias": False,
    "use_qk_norm": True,
    "norm_type": "rms_norm",
    "image_size": [448, 448],
}
INTERNVIT_300M: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "attention_bias": True,
    "use_qk_norm": False,
    "norm_type": "layer_norm",
    "image_size": [448, 448],
}


def _qwen2(
    hidden: int, mlp: int, layers: int, heads: tuple[int, int], vocab: int
) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "vocab_size": vocab,
        "tie_word_embeddings": False,
    }


def _internvl(vision: dict[str, Any], text: dict[str, Any]) -> InternVLConfig:
    return InternVLConfig(
        vision_config=vision,
        text_config={"model_type": "qwen2", **text},
        image_seq_length=256,
        downsample_ratio=0.5,
        tie_word_embeddings=False,
    )


def _qwen2_5_vl(text: dict[str, Any], tied: bool) -> Qwen2_5_VLConfig:
    sections = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
    return Qwen2_5_VLConfig(
        text_config={**text, "tie_word_embeddings": tied, "rope_parameters": sections},
        vision_config={
            "depth": 32,
            "hidden_size": 1280,
            "intermediate_size": 3420,
            "num_heads": 16,
            "out_hidden_size": text["hidden_size"],
            "window_size": 112,
        },
        tie_word_embeddings=tied,
    )


@dataclass(frozen=True, slots=True)
class Architecture:
    """What a shipped recipe's policy is made of."""

    config: PreTrainedConfig
    billions: float
    """Parameters, from the model card."""
    image_tokens: int
    """Tokens of the largest picture that the recipe should take; 0: it takes none."""


_TILED = 13 * 256 + 2
_R1V = Architecture(_internvl(INTERNVIT_6B, _qwen2(5120, 27648, 64, (40, 8), 152064)), 38.4, _TILED)

ARCHITECTURES: dict[str, Architecture] = {
    "r1v_38b/align": _R1V,
    "r1v_38b/sft": _R1V,
    "r1v_38b/grpo": _R1V,
    "internvl3_8b": Architecture(
        _internvl(INTERNVIT_300M, _qwen2(3584, 18944, 28, (28, 4), 151674)), 7.94, _TILED
    ),
    # A picture of 1,000 by 1,000 pixels: 36 by 36 tokens of 28 pixels.
    "qwen2_5_vl_7b_geometry3k": Architecture(
        _qwen2_5_vl(_qwen2(3584, 18944, 28, (28, 4), 152064), tied=False), 8.29, 36 * 36 + 2
    ),
    "qwen2_5_vl_3b_one_gpu": Architecture(
        _qwen2_5_vl(_qwen2(2048, 11008, 36, (16, 2), 151936), tied=True), 3.75, 36 * 36 + 2
    ),
    "deepseek_r1_distill_qwen_1_5b_text": Architecture(
        Qwen2Config(**_qwen2(1536, 8960, 28, (12, 2), 151936)), 1.78, 0
    ),
}
