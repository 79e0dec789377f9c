"""Vision encoders of every kind become part of a model, or are refused with the reason."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from configs.jobs.assembly import AssembleOptions
from models.assembly.conversion import plan_conversion
from models.assembly.r1v import plan_assembly, plan_swap
from tests.unit.models.assembly.chat_model import build_chat_model, save_checkpoint
from tests.unit.models.assembly.parts import (
    build_clip,
    build_internvit,
    build_llm,
    build_siglip,
    config_of,
)


def put_together(tmp_path: Path, **options: Any) -> Path:
    chosen = AssembleOptions(**{"max_tiles": 4} | options)
    plan_assembly(tmp_path / "eye", tmp_path / "llm", chosen).write(tmp_path / "out")
    return tmp_path / "out"


def loaded(folder: Path) -> Any:
    model, report = AutoModelForImageTextToText.from_pretrained(
        folder, output_loading_info=True, trust_remote_code=True
    )
    assert not any(report.values()), report
    return model.eval()


@pytest.mark.parametrize(("build", "layer"), [(build_siglip, -1), (build_clip, -2)])
def test_patches_of_a_foreign_encoder_reach_the_projector_folded_by_four(
    tmp_path: Path, build: Any, layer: int
) -> None:
    alone = build(tmp_path / "eye")
    build_llm(tmp_path / "llm")
    model = loaded(put_together(tmp_path, feature_layer=layer))
    pixels = torch.randn(2, 3, 56, 56)
    seen = alone(pixels, output_hidden_states=True)
    states = seen.last_hidden_state if layer == -1 else seen.hidden_states[layer]
    patches = states[:, -16:].unflatten(1, (4, 4))  # a CLS token, if any, comes first
    folded = torch.cat([patches[:, i::2, j::2] for i in (0, 1) for j in (0, 1)], -1).flatten(1, 2)
    found = model.get_image_features(pixel_values=pixels).pooler_output
    torch.testing.assert_close(found, model.model.multi_modal_projector(folded))


def test_a_model_with_a_foreign_encoder_is_trained_saved_and_swapped(tmp_path: Path) -> None:
    build_siglip(tmp_path / "eye")
    build_llm(tmp_path / "llm")
    build_llm(tmp_path / "reasoner", seed=1)
    folder = put_together(tmp_path)
    plan_swap(folder, tmp_path / "reasoner").write(tmp_path / "swapped")
    model = loaded(tmp_path / "swapped")
    processor = AutoProcessor.from_pretrained(tmp_path / "swapped", trust_remote_code=True)
    made = processor(
        text="<IMG_CONTEXT>?", images=[Image.new("RGB", (112, 56), "red")], return_tensors="pt"
    )
    logits = model(**made).logits
    logits.sum().backward()
    assert all(p.grad is not None for p in model.model.multi_modal_projector.parameters())
    model.save_pretrained(tmp_path / "saved")
    written, saved = (
        load_file(tmp_path / name / "model.safetensors") for name in ("swapped", "saved")
    )
    assert written.keys() == saved.keys()  # so that engines read what learners export
    assert "head.probe" not in " ".join(written)


def test_an_internvit_in_its_own_layout_is_read(tmp_path: Path) -> None:
    theirs = build_chat_model(tmp_path / "chat")
    build_llm(tmp_path / "llm")
    start = "vision_model."
    own = {k.removeprefix(start): v for k, v in theirs.tensors.items() if k.startswith(start)}
    (tmp_path / "eye").mkdir()
    save_checkpoint(tmp_path / "eye", own, 2)
    (tmp_path / "eye" / "config.json").write_text(json.dumps(theirs.config["vision_config"]))
    pixels = torch.randn(1, 3, 56, 56)
    seen = loaded(put_together(tmp_path)).model.vision_tower(pixels).last_hidden_state
    torch.testing.assert_close(seen, theirs.tower(pixels), atol=1e-4, rtol=1e-4)


def test_a_whole_chat_model_lends_its_encoder(tmp_path: Path) -> None:
    theirs = build_chat_model(tmp_path / "eye", qk_norm=False)
    build_llm(tmp_path / "llm")
    pixels = torch.randn(1, 3, 56, 56)
    seen = loaded(put_together(tmp_path)).model.vision_tower(pixels).last_hidden_state
    torch.testing.assert_close(seen, theirs.tower(pixels), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("choice", "mean"), [("tower", [0.5] * 3), ("imagenet", [0.485] * 1)])
def test_pixels_are_normalised_as_the_encoder_learned_them(
    tmp_path: Path, choice: str, mean: list[float]
) -> None:
    build_siglip(tmp_path / "eye")
    build_llm(tmp_path / "llm")
    settings = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (tmp_path / "eye" / "preprocessor_config.json").write_text(json.dumps(settings))
    folder = put_together(tmp_path, normalise=choice)
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    assert list(processor.image_processor.image_mean)[: len(mean)] == mean


def test_what_cannot_be_put_together_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    build_internvit(tmp_path / "even")
    build_internvit(tmp_path / "odd", image_size=(70, 70))
    build_siglip(tmp_path / "foreign_odd", image_size=42)
    build_llm(tmp_path / "llm")
    build_llm(tmp_path / "mute", chat_template=None)
    for eye, llm, reason, options in (
        ("odd", "llm", "5 x 5 patches, which do not fold", {}),
        ("foreign_odd", "llm", "3 x 3 patches, which do not fold", {}),
        ("even", "mute", "no chat template", {}),
        ("even", "even", "'internvl_vision' model; a language model must be", {}),
        ("even", "nowhere/at-all/", "neither a folder nor a model", {}),
        ("even", "llm", "last layer only", {"feature_layer": -2}),
    ):
        with pytest.raises(ValueError, match=reason):
            chosen = AssembleOptions(**options)
            plan_assembly(tmp_path / eye, tmp_path / llm, chosen).write(tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".writing*"))


def test_a_foreign_encoder_cannot_be_written_in_the_chat_layout(tmp_path: Path) -> None:
    build_siglip(tmp_path / "eye")
    build_llm(tmp_path / "llm")
    folder = put_together(tmp_path)
    assert config_of(folder)["model_type"] == "r1v"
    with pytest.raises(ValueError, match=r"'r1v' model; only .* InternVL's own vision encoder"):
        plan_conversion(folder, "skywork")
