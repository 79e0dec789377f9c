"""Which parameter belongs to which part, and which of them learn."""

from pathlib import Path

import pytest

from configs.jobs.grpo import PolicyConfig
from models.policy.loading import freeze, load_model
from models.policy.parts import part_of
from models.tiny.model import build_tiny_text, build_tiny_vlm


@pytest.mark.parametrize(
    ("parameter", "part"),
    [
        # InternVL as transformers names it
        ("model.vision_tower.embeddings.cls_token", "vision"),
        ("model.vision_tower.encoder.layer.0.mlp.fc1.weight", "vision"),
        ("model.multi_modal_projector.linear_1.weight", "projector"),
        ("model.language_model.layers.3.mlp.up_proj.weight", "language"),
        ("model.language_model.embed_tokens.weight", "language"),
        ("lm_head.weight", "language"),
        # InternVL as its authors name it
        ("vision_model.encoder.layers.0.attn.qkv.weight", "vision"),
        ("mlp1.1.weight", "projector"),
        ("language_model.model.layers.0.mlp.gate_proj.weight", "language"),
        # Qwen2.5-VL keeps its projector inside the tower
        ("model.visual.patch_embed.proj.weight", "vision"),
        ("model.visual.blocks.0.attn.qkv.weight", "vision"),
        ("model.visual.merger.ln_q.weight", "projector"),
        ("model.visual.merger.mlp.0.weight", "projector"),
        ("visual.merger.mlp.2.bias", "projector"),
        ("model.language_model.layers.0.self_attn.q_proj.bias", "language"),
    ],
)
def test_a_parameter_s_name_tells_its_part(parameter: str, part: str) -> None:
    assert part_of(parameter) == part


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policies")
    build_tiny_vlm(folder / "vlm", seed=3)
    build_tiny_text(folder / "text", seed=3)
    return folder


def test_only_the_named_parts_learn_and_tied_weights_are_language(folder: Path) -> None:
    model = load_model(PolicyConfig(path="-", dtype="float32"), folder / "vlm")
    freeze(model, ["projector"])
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    assert learning
    assert all(name.startswith("model.multi_modal_projector.") for name in learning)

    freeze(model, ["vision", "language"])
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {part_of(name) for name in learning} == {"vision", "language"}
    assert model.lm_head.weight.requires_grad
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert {part_of(name) for name in frozen} == {"projector"}


def test_a_policy_that_would_learn_nothing_is_refused(folder: Path) -> None:
    model = load_model(PolicyConfig(path="-", dtype="float32"), folder / "text")
    with pytest.raises(ValueError) as caught:
        freeze(model, ["vision", "projector"])
    assert "['vision', 'projector']" in str(caught.value)
    assert "['language']" in str(caught.value)
