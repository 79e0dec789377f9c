"""A policy is read as its recipe says."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from configs.schema.data import PromptConfig
from configs.schema.policy import PolicyConfig
from models.inputs.encoder import InputEncoder
from models.policy.check import check_policy
from models.policy.loading import load_model, take_weight
from models.tiny.model import build_tiny_text, build_tiny_vlm
from rl.console.errors import UserError
from rl.data.records import Problem
from tests.expert_families import build_internvl3_5_moe, build_qwen3_moe, build_qwen3_vl_moe
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


def test_weights_that_are_pickles_are_refused_unread(tmp_path: Path) -> None:
    build_tiny_text(tmp_path, seed=0)
    policy = PolicyConfig(path=str(tmp_path), dtype="float32", train=("language",))
    model = load_model(policy, tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    assert check_policy(policy)  # beside safetensors nobody reads it
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"pytorch_model\.bin, a pickle, .* run code"):
        check_policy(policy)
    with pytest.raises(OSError, match="safetensors"):
        load_model(policy, tmp_path)


@pytest.mark.parametrize("known", [True, False])
def test_code_that_a_checkpoint_brings_is_not_run_unless_the_recipe_says_so(
    known: bool, tmp_path: Path
) -> None:
    folder, proof = tmp_path / "policy", tmp_path / "it_ran"
    build_tiny_text(folder, seed=0)
    own = "from transformers import Qwen2Config\n\nclass Own(Qwen2Config):\n    pass\n"
    (folder / "own.py").write_text(f"open({str(proof)!r}, 'w').close()\n{own}")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config |= {"auto_map": {"AutoConfig": "own.Own"}}
    config |= {} if known else {"model_type": "of_its_own"}
    (folder / "config.json").write_text(json.dumps(config))
    policy = PolicyConfig(path=str(folder), train=("language",))
    if known:
        check_policy(policy)
        load_model(policy, folder)
        InputEncoder(folder, PromptConfig(), policy.trust_remote_code)
    else:
        with pytest.raises(UserError, match="cannot be read"):
            check_policy(policy)
    assert not proof.exists()
    check_policy(policy.model_copy(update={"trust_remote_code": True}))
    assert proof.exists()


@pytest.mark.parametrize("build", [build_qwen3_moe, build_qwen3_vl_moe, build_internvl3_5_moe])
def test_a_weight_whose_pieces_are_joined_when_it_is_asked_for_is_the_same(
    build: Callable[[Path], None], tmp_path: Path
) -> None:
    build(tmp_path)
    policy = PolicyConfig(path=str(tmp_path), dtype="bfloat16")
    model = load_model(policy, tmp_path, as_saved=True)
    joined = [name for name, own in model.named_parameters() if 0 in own.stride()]
    assert joined and all(".experts." in name for name in joined)
    for parameter in model.parameters():
        before = parameter.requires_grad
        take_weight(parameter, torch.bfloat16)
        assert parameter.requires_grad == before
    expected = load_model(policy, tmp_path).state_dict()
    found = model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
