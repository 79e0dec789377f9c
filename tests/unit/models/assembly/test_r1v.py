"""An assembled model is its parts: each says what it said alone."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    InternVLProcessor,
)

from configs.jobs.assembly import AssembleOptions
from models.assembly.r1v import plan_assembly, plan_swap
from tests.unit.models.assembly.parts import WIDTH, build_internvit, build_llm, config_of

WORDS = torch.tensor([[70, 71, 80, 90, 258]])
IMAGE_TOKENS = ("<img>", "</img>", "<IMG_CONTEXT>", "<video>")


def put_together(tmp_path: Path, out: str = "out", **options: Any) -> Path:
    folder = tmp_path / out
    plan_assembly(tmp_path / "eye", tmp_path / "llm", AssembleOptions(**options)).write(folder)
    return folder


def loaded(folder: Path) -> Any:
    model, report = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    return model.eval()


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {k: v for file in folder.glob("*.safetensors") for k, v in load_file(file).items()}


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama"])
def test_the_language_model_says_what_it_said_alone(tmp_path: Path, family: str) -> None:
    build_internvit(tmp_path / "eye")
    alone = build_llm(tmp_path / "llm", family)
    model = loaded(put_together(tmp_path))
    known = alone.config.vocab_size
    torch.testing.assert_close(model(WORDS).logits[..., :known], alone(WORDS).logits)


def test_the_encoder_sees_what_it_saw_alone(tmp_path: Path) -> None:
    alone = build_internvit(tmp_path / "eye", use_qk_norm=True, norm_type="rms_norm")
    build_llm(tmp_path / "llm")
    model = loaded(put_together(tmp_path))
    pixels = torch.randn(2, 3, 56, 56)
    seen = model.model.vision_tower(pixels).last_hidden_state
    torch.testing.assert_close(seen, alone(pixels).last_hidden_state)


def test_a_whole_model_lends_its_encoder(tmp_path: Path) -> None:
    build_internvit(tmp_path / "eye")
    build_llm(tmp_path / "llm")
    first = put_together(tmp_path)
    plan_assembly(first, tmp_path / "llm", AssembleOptions(seed=9)).write(tmp_path / "again")
    before, after = weights(first), weights(tmp_path / "again")
    other = {name for name in before if not torch.equal(before[name], after[name])}
    assert other == {
        f"multi_modal_projector.linear_{i}.{kind}" for i in (1, 2) for kind in ("weight", "bias")
    }


def test_the_projector_comes_from_the_seed_and_draws_nothing_from_the_caller(
    tmp_path: Path,
) -> None:
    build_internvit(tmp_path / "eye")
    build_llm(tmp_path / "llm")
    torch.manual_seed(3)
    same = [put_together(tmp_path, name, seed=5) for name in ("a", "b")]
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(1))
    names = [n for n in weights(same[0]) if n.startswith("multi_modal_projector")]
    a, b, c = (weights(f) for f in (*same, put_together(tmp_path, "c", seed=6)))
    assert len(names) == 6
    assert a["multi_modal_projector.linear_1.weight"].shape == (WIDTH, 4 * 24)
    assert all(torch.equal(a[name], b[name]) for name in names)
    assert not torch.equal(a[names[-1]], c[names[-1]])


@pytest.mark.parametrize("tied", [True, False])
def test_rows_of_added_tokens_are_the_mean_of_the_old_ones(tmp_path: Path, tied: bool) -> None:
    build_internvit(tmp_path / "eye")
    alone = build_llm(tmp_path / "llm", tie_word_embeddings=tied)
    folder = put_together(tmp_path)
    model, known = loaded(folder), alone.config.vocab_size
    config, tokenizer = config_of(folder), AutoProcessor.from_pretrained(folder).tokenizer
    assert tokenizer.convert_tokens_to_ids(IMAGE_TOKENS) == [known + i for i in range(4)]
    assert config["image_token_id"] == known + 2
    assert config["text_config"]["vocab_size"] == known + 4
    assert config["tie_word_embeddings"] is config["text_config"]["tie_word_embeddings"] is tied
    assert ("language_model.lm_head.weight" in weights(folder)) is not tied
    pairs = [(model.get_input_embeddings(), alone.get_input_embeddings())]
    pairs += [] if tied else [(model.lm_head, alone.lm_head)]
    for layer, old in pairs:
        assert torch.equal(layer.weight[:known], old.weight)
        mean = old.weight.double().mean(0).float()
        torch.testing.assert_close(layer.weight[known:], mean.expand(4, -1))


def test_added_tokens_may_be_drawn_with_the_spread_of_the_old_ones(tmp_path: Path) -> None:
    build_internvit(tmp_path / "eye")
    alone = build_llm(tmp_path / "llm")
    known = alone.config.vocab_size
    rows = loaded(put_together(tmp_path, new_rows="normal")).get_input_embeddings().weight[known:]
    assert not torch.equal(rows[0], rows[1])
    assert 0.7 * alone.get_input_embeddings().weight.std() < rows.std()
    assert rows.std() < 1.3 * alone.get_input_embeddings().weight.std()


def test_tokens_that_are_there_are_kept_with_their_rows(tmp_path: Path) -> None:
    build_internvit(tmp_path / "eye")
    alone = build_llm(tmp_path / "llm", special=("<IMG_CONTEXT>", "<img>", "</img>"))
    model = loaded(put_together(tmp_path))
    known = alone.config.vocab_size
    assert model.config.text_config.vocab_size == known + 1  # the video token
    assert torch.equal(
        model.get_input_embeddings().weight[:known], alone.get_input_embeddings().weight
    )
    assert model.config.image_token_id < known


def test_spare_rows_of_the_embedding_are_used_before_it_grows(tmp_path: Path) -> None:
    build_internvit(tmp_path / "eye")
    alone = build_llm(tmp_path / "llm", vocab_size=300)
    tokens = 256 + 5
    model = loaded(put_together(tmp_path))
    rows, old = model.get_input_embeddings().weight, alone.get_input_embeddings().weight
    assert model.config.text_config.vocab_size == 300
    assert model.config.image_token_id == tokens + 2
    torch.testing.assert_close(rows[tokens], old[:tokens].double().mean(0).float())
    assert torch.equal(rows[tokens + 4 :], old[tokens + 4 :])


def test_a_picture_becomes_a_token_for_each_four_patches_of_each_tile(tmp_path: Path) -> None:
    build_internvit(tmp_path / "eye")
    build_llm(tmp_path / "llm")
    folder = put_together(tmp_path, max_tiles=4)
    processor = AutoProcessor.from_pretrained(folder)
    assert type(processor) is InternVLProcessor
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "?"}]}]
    text = processor.apply_chat_template(messages, add_generation_prompt=True)
    wide = Image.new("RGB", (112, 56), "white")  # two tiles and a thumbnail
    made = processor(text=text, images=[wide], return_tensors="pt")
    assert made["pixel_values"].shape == (3, 3, 56, 56)
    image_token = config_of(folder)["image_token_id"]
    assert int((made["input_ids"] == image_token).sum()) == 3 * 4
    blank = (1.0 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(made["pixel_values"][0, :, 0, 0], blank)
    assert loaded(folder)(**made).logits.isfinite().all()


@pytest.mark.parametrize("named", ["LlamaTokenizerFast", "Qwen2Tokenizer", "TokenizersBackend"])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_text_is_cut_as_tokenizer_json_says_whatever_class_the_folder_names(
    tmp_path: Path, family: str, named: str
) -> None:
    build_internvit(tmp_path / "eye")
    build_llm(tmp_path / "llm", family)
    file = tmp_path / "llm" / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"tokenizer_class": named}))
    tokenizer = AutoTokenizer.from_pretrained(put_together(tmp_path))
    right = Tokenizer.from_file(str(tmp_path / "llm" / "tokenizer.json"))
    text = "  <think>\nNa\u00efve: 3+5=8, don't.</think>\n\n\u4e09"
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == right.encode(text).ids


def test_a_swap_keeps_encoder_and_projector_and_speaks_as_the_new_model(tmp_path: Path) -> None:
    build_internvit(tmp_path / "eye")
    build_llm(tmp_path / "llm", seed=0)
    special = ("<|User|>", "<IMG_CONTEXT>")
    alone = build_llm(tmp_path / "reasoner", seed=1, special=special, num_hidden_layers=3)
    base = put_together(tmp_path)
    plan_swap(base, tmp_path / "reasoner").write(tmp_path / "swapped")
    old, new = weights(base), weights(tmp_path / "swapped")
    kept = [name for name in old if not name.startswith("language_model.")]
    assert kept and all(torch.equal(old[name], new[name]) for name in kept)
    model, known = loaded(tmp_path / "swapped"), alone.config.vocab_size
    torch.testing.assert_close(model(WORDS).logits[..., :known], alone(WORDS).logits)
    tokenizer = AutoProcessor.from_pretrained(tmp_path / "swapped").tokenizer
    assert "<|User|>" in tokenizer.get_vocab()
    assert model.config.image_token_id == tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")


def test_a_projector_carries_over_to_its_own_family_and_width_only(tmp_path: Path) -> None:
    build_internvit(tmp_path / "eye")
    build_llm(tmp_path / "llm")
    build_llm(tmp_path / "wide", hidden_size=64)
    build_llm(tmp_path / "llama", "llama")
    base = put_together(tmp_path)
    with pytest.raises(ValueError, match=r"vectors 32 wide and .* reads 64"):
        plan_swap(base, tmp_path / "wide").write(tmp_path / "swapped")
    with pytest.raises(ValueError, match=r"'qwen2' model and .* 'llama' one"):
        plan_swap(base, tmp_path / "llama").write(tmp_path / "swapped")
    with pytest.raises(ValueError, match="not an assembled one"):
        plan_swap(tmp_path / "llm", tmp_path / "llm").write(tmp_path / "swapped")
    assert not (tmp_path / "swapped").exists()


def test_precision_is_the_language_models_unless_it_is_named(tmp_path: Path) -> None:
    build_internvit(tmp_path / "eye")
    build_llm(tmp_path / "llm").bfloat16().save_pretrained(tmp_path / "llm")
    for options, dtype in (({}, torch.bfloat16), ({"dtype": "float32"}, torch.float32)):
        folder = put_together(tmp_path, str(dtype), **options)
        assert {tensor.dtype for tensor in weights(folder).values()} == {dtype}
        assert loaded(folder).config.dtype == dtype
