"""Conversions between the chat layout and transformers: same bits, same logits, no silent loss."""

import json
import shutil
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from models.assembly import shards
from models.assembly.conversion import plan_conversion
from models.assembly.shards import GIB, Shards
from tests.unit.models.assembly.chat_model import build_chat_model, save_checkpoint
from tests.unit.models.assembly.parts import QWEN2, config_of


def convert(source: Path, out: Path, layout: str, shard_gib: float = 1.0) -> Path:
    plan_conversion(source, layout).write(out, shard_gib)
    return out


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {k: v for file in folder.glob("*.safetensors") for k, v in load_file(file).items()}


def same_bits(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(
        a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]) for name in a
    )


@pytest.mark.parametrize("qk_norm", [True, False], ids=["rms_norm", "layer_norm"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_converted_weights_give_the_same_logits(tmp_path: Path, qk_norm: bool, tied: bool) -> None:
    theirs = build_chat_model(tmp_path / "chat", qk_norm=qk_norm, tied=tied, shards=3)
    folder = convert(tmp_path / "chat", tmp_path / "ours", "transformers")
    ours: Any
    ours, report = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values())
    assert config_of(folder)["tie_word_embeddings"] is tied
    context = [theirs.image_token]
    ids = torch.tensor([65, 256, *context * 8, 257, 70, 80])  # two tiles of four tokens
    pixels = torch.randn(2, 3, 56, 56, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        logits = ours.eval()(ids[None], pixel_values=pixels).logits[0]
        wanted = theirs.logits(ids, pixels)
        blind = theirs.logits(ids, torch.zeros_like(pixels))
    torch.testing.assert_close(logits, wanted, atol=1e-4, rtol=1e-4)
    assert (wanted - blind).abs().max() > 0.1


@pytest.mark.parametrize("qk_norm", [True, False])
def test_there_and_back_gives_the_same_bits_and_settings(tmp_path: Path, qk_norm: bool) -> None:
    theirs = build_chat_model(tmp_path / "chat", qk_norm=qk_norm, shards=2)
    ours = convert(tmp_path / "chat", tmp_path / "ours", "transformers")
    back = convert(ours, tmp_path / "back", "skywork")
    assert same_bits(weights(back), theirs.tensors)
    found, wanted = config_of(back), theirs.config
    for section in ("vision_config", "llm_config"):
        held = found.pop(section)
        assert {key: held.get(key) for key in wanted[section]} == wanted[section]
    assert {key: found.get(key) for key in wanted if key in found} == {
        key: value for key, value in wanted.items() if key in found
    }
    assert (back / "chat_template.jinja").read_text() == QWEN2
    again = convert(back, tmp_path / "again", "transformers")
    assert same_bits(weights(again), weights(ours))
    assert config_of(again) == config_of(ours)


@pytest.mark.parametrize(
    ("layout", "name", "kind"),
    [
        ("skywork", "SkyworkR1VChatModel", "skywork_chat"),
        ("internvl", "InternVLChatModel", "internvl_chat"),
    ],
)
def test_both_names_of_the_layout_are_written_and_read(
    tmp_path: Path, layout: str, name: str, kind: str
) -> None:
    theirs = build_chat_model(tmp_path / "chat", architectures=[name], model_type=kind)
    ours = convert(tmp_path / "chat", tmp_path / "ours", "transformers")
    back = convert(ours, tmp_path / "back", layout)
    assert (config_of(back)["architectures"], config_of(back)["model_type"]) == ([name], kind)
    assert same_bits(weights(back), theirs.tensors)


def test_code_that_a_checkpoint_brings_comes_back(tmp_path: Path) -> None:
    code = {"AutoConfig": "configuration_skywork_chat.SkyworkChatConfig"}
    build_chat_model(tmp_path / "chat", auto_map=code)
    (tmp_path / "chat" / "configuration_skywork_chat.py").write_text("# theirs\n")
    ours = convert(tmp_path / "chat", tmp_path / "ours", "transformers")
    assert "auto_map" not in config_of(ours)
    back = convert(ours, tmp_path / "back", "skywork")
    assert config_of(back)["auto_map"] == code
    assert (back / "configuration_skywork_chat.py").read_text() == "# theirs\n"


def test_image_tokens_are_looked_up_by_string(tmp_path: Path) -> None:
    theirs = build_chat_model(tmp_path / "chat")
    ours = convert(tmp_path / "chat", tmp_path / "ours", "transformers")
    processor = AutoProcessor.from_pretrained(ours)
    assert config_of(ours)["image_token_id"] == processor.image_token_id == theirs.image_token
    assert processor.image_processor.max_patches == 6
    assert len(processor.tokenizer) == theirs.config["llm_config"]["vocab_size"]
    shutil.copytree(tmp_path / "chat", tmp_path / "blind")
    for file in (tmp_path / "blind").glob("tokenizer*.json"):
        file.write_text(file.read_text().replace("<IMG_CONTEXT>", "<OTHER>"))
    with pytest.raises(ValueError, match="lacks <IMG_CONTEXT>"):
        plan_conversion(tmp_path / "blind", "transformers")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"ps_version": "v1"}, "column after column"),
        ({"select_layer": -4}, "select_layer=-4"),
        ({"use_llm_lora": 16}, "merge the adapter"),
        ({"force_image_size": 112}, "places learned for 56 pixels"),
        ({"llm_config": {"architectures": ["InternLM2ForCausalLM"]}}, "InternLM2ForCausalLM"),
    ],
)
def test_settings_that_would_change_the_model_are_refused_and_nothing_is_written(
    tmp_path: Path, settings: dict[str, Any], reason: str
) -> None:
    build_chat_model(tmp_path / "chat")
    config = config_of(tmp_path / "chat") | settings
    (tmp_path / "chat" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=reason):
        convert(tmp_path / "chat", tmp_path / "out", "transformers")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chat"]


def test_a_config_that_names_no_pixel_shuffle_means_the_first_one(tmp_path: Path) -> None:
    build_chat_model(tmp_path / "chat")
    config = config_of(tmp_path / "chat")
    del config["ps_version"]
    (tmp_path / "chat" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="v1 where none is written"):
        plan_conversion(tmp_path / "chat", "transformers")


def test_tensors_without_a_place_are_all_named(tmp_path: Path) -> None:
    theirs = build_chat_model(tmp_path / "chat")
    odd = {"mlp1.4.weight": torch.ones(1), "vision_model.encoder.layers.0.gate": torch.ones(1)}
    save_checkpoint(tmp_path / "chat", theirs.tensors | odd, 1)
    with pytest.raises(ValueError, match=r"encoder\.layers\.0\.gate"):
        plan_conversion(tmp_path / "chat", "transformers")
    save_checkpoint(tmp_path / "chat", theirs.tensors | {"mlp1.4.weight": torch.ones(1)}, 1)
    with pytest.raises(ValueError, match=r"mlp1\.4\.weight"):
        plan_conversion(tmp_path / "chat", "transformers")
    less = {name: t for name, t in theirs.tensors.items() if name != "mlp1.0.bias"}
    save_checkpoint(tmp_path / "chat", less, 1)
    with pytest.raises(ValueError, match=r"missing \(multi_modal_projector\.layer_norm\.bias"):
        plan_conversion(tmp_path / "chat", "transformers")


def test_a_layout_that_is_there_already_is_not_asked_for(tmp_path: Path) -> None:
    build_chat_model(tmp_path / "chat")
    with pytest.raises(ValueError, match="asks for nothing new; ask for transformers"):
        plan_conversion(tmp_path / "chat", "internvl")


def test_a_folder_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    build_chat_model(tmp_path / "chat")
    with pytest.raises(ValueError, match="is there already"):
        convert(tmp_path / "chat", tmp_path / "chat", "transformers")
    assert (tmp_path / "chat" / "config.json").is_file()


def test_weights_are_streamed_with_one_file_open_and_one_shard_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = build_chat_model(tmp_path / "chat", shards=5)
    open_now: weakref.WeakSet[Any] = weakref.WeakSet()
    most_open, alive, most_alive = 0, {}, 0

    class Watched:
        """A file that is counted while somebody holds it."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            nonlocal most_open
            self._file = safe_open(*args, **kwargs)
            open_now.add(self)
            most_open = max(most_open, len(open_now))

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

    def read(self: Shards, name: str) -> torch.Tensor:
        nonlocal most_alive
        tensor = self._handle(self._files[name]).get_tensor(name)
        size = tensor.numel() * tensor.element_size()
        alive[name] = size
        weakref.finalize(tensor, alive.pop, name)
        most_alive = max(most_alive, sum(alive.values()))
        return tensor

    monkeypatch.setattr(shards, "safe_open", Watched)
    monkeypatch.setattr(Shards, "read", read)
    total = sum(4 * tensor.numel() for tensor in theirs.tensors.values())
    largest = max(4 * tensor.numel() for tensor in theirs.tensors.values())
    shard = total // 6
    ours = convert(tmp_path / "chat", tmp_path / "ours", "transformers", shard_gib=shard / GIB)
    assert most_open == 1
    assert 0 < most_alive <= shard + largest < total / 2
    index = json.loads((ours / "model.safetensors.index.json").read_text())
    files = sorted(ours.glob("*.safetensors"))
    assert len(files) >= 6 and {file.name for file in files} == set(index["weight_map"].values())
    assert index["metadata"]["total_size"] == total
    back = convert(ours, tmp_path / "back", "skywork")
    assert same_bits(weights(back), theirs.tensors)
