"""Configs of checkpoints that shipped recipes name, so that their plans need no download.

Language models and the towers of Qwen2.5-VL: config.json of the checkpoints on the Hugging Face
hub. InternViT-6B: that of OpenGVLab/InternViT-6B-448px-V1-5, whose shape V2_5 has. InternViT-300M:
OpenGVLab/InternViT-300M-448px-V2_5.
"""

from collections.abc import Callable
from typing import Any

from transformers import InternVLConfig, PreTrainedConfig, Qwen2_5_VLConfig, Qwen2Config

_INTERNVIT_6B: dict[str, Any] = {
    "hidden_size": 3200,
    "intermediate_size": 12800,
    "num_hidden_layers": 45,
    "num_attention_heads": 25,
    "attention_bias": False,
    "use_qk_norm": True,
    "norm_type": "rms_norm",
    "image_size": [448, 448],
}
_INTERNVIT_300M: dict[str, Any] = {
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
    widths: tuple[int, int], layers: int, heads: tuple[int, int], *, vocab: int, context: int
) -> dict[str, Any]:
    """`widths`: hidden and intermediate; `heads`: of queries and of keys."""
    return {
        "hidden_size": widths[0],
        "intermediate_size": widths[1],
        "num_hidden_layers": layers,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "vocab_size": vocab,
        "max_position_embeddings": context,
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


def _r1v(context: int) -> InternVLConfig:
    text = _qwen2((5120, 27648), 64, (40, 8), vocab=152064, context=context)
    return _internvl(_INTERNVIT_6B, text)


def _internvl3_8b() -> InternVLConfig:
    text = _qwen2((3584, 18944), 28, (28, 4), vocab=151674, context=32768)
    return _internvl(_INTERNVIT_300M, text)


def _qwen2_5_vl_7b() -> Qwen2_5_VLConfig:
    text = _qwen2((3584, 18944), 28, (28, 4), vocab=152064, context=128000)
    return _qwen2_5_vl(text, tied=False)


def _qwen2_5_vl_3b() -> Qwen2_5_VLConfig:
    text = _qwen2((2048, 11008), 36, (16, 2), vocab=151936, context=128000)
    return _qwen2_5_vl(text, tied=True)


def _r1_distill_1_5b() -> Qwen2Config:
    return Qwen2Config(**_qwen2((1536, 8960), 28, (12, 2), vocab=151936, context=131072))


ARCHITECTURES: dict[str, Callable[[], PreTrainedConfig]] = {
    "checkpoints/r1v_38b_substitute": lambda: _r1v(32768),
    "checkpoints/r1v_38b": lambda: _r1v(131072),
    "runs/r1v_38b_sft_4/policy": lambda: _r1v(131072),
    "runs/r1v_38b_grpo/checkpoints/step_000200/policy": lambda: _r1v(131072),
    "OpenGVLab/InternVL3-8B-hf": _internvl3_8b,
    "Qwen/Qwen2.5-VL-7B-Instruct": _qwen2_5_vl_7b,
    "Qwen/Qwen2.5-VL-3B-Instruct": _qwen2_5_vl_3b,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": _r1_distill_1_5b,
}
"""By `policy.path`; those of R1V are the checkpoints that its recipes leave one another."""
