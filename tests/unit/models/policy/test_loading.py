"""A policy is read as its recipe says."""

from pathlib import Path

import torch

from configs.schema.data import PromptConfig
from configs.schema.policy import PolicyConfig
from models.inputs.encoder import InputEncoder
from models.policy.loading import load_model
from models.tiny.model import build_tiny_vlm
from rl.data.records import Problem
from tests.unit.step_samples import png


def test_the_towers_attention_is_the_recipes_and_the_language_models_stays(tmp_path: Path) -> None:
    build_tiny_vlm(tmp_path, seed=0)
    config = PolicyConfig(path=str(tmp_path), dtype="float32", vision_attention="eager")
    usual = PolicyConfig(dtype="float32")
    model, _ = both = [load_model(each, tmp_path) for each in (config, usual)]
    assert model.config.vision_config._attn_implementation == "eager"
    assert model.config.get_text_config()._attn_implementation == "sdpa"
    encoder = InputEncoder(tmp_path, PromptConfig(), trust_remote_code=False)
    asked = Problem("p", "What?", ("1",), (png(56, 56),))
    pixels = encoder.pixels([asked])["pixel_values"]
    features = [m.get_image_features(pixels, return_dict=True).pooler_output for m in both]
    torch.testing.assert_close(*features, rtol=1e-4, atol=1e-5)
