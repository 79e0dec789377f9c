"""The laptop's policies load, speak and see as any checkpoint does."""

from pathlib import Path

import torch
from PIL import Image
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
)

from models.assembly.image_tokens import IMAGE_TOKEN
from models.tiny.model import TinySize, build_tiny_text, tiny_tokenizer
from rl.digits.wording import EXAMPLES, SENTENCES

ASKED = [
    {
        "role": "user",
        "content": [{"type": "image"}, {"type": "text", "text": "Add up the digits."}],
    }
]


def test_the_policy_has_about_a_million_parameters_and_the_r1v_parts(vlm: Path) -> None:
    model = AutoModelForImageTextToText.from_pretrained(vlm)
    assert type(model).__name__ == "InternVLForConditionalGeneration"
    assert 0.7e6 < sum(parameter.numel() for parameter in model.parameters()) < 1.2e6
    assert model.model.multi_modal_projector.layer_norm.normalized_shape == (
        4 * TinySize().vision_hidden,
    )
    assert model.lm_head.weight is model.model.language_model.embed_tokens.weight


def test_an_image_becomes_four_tokens_and_changes_what_the_policy_says(vlm: Path) -> None:
    processor = AutoProcessor.from_pretrained(vlm)
    model = AutoModelForImageTextToText.from_pretrained(vlm)
    prompt = processor.apply_chat_template(ASKED, tokenize=False, add_generation_prompt=True)

    def logits(shade: int) -> torch.Tensor:
        image = Image.new("RGB", (56, 56), (shade, 0, 0))
        inputs = processor(text=prompt, images=[image], return_tensors="pt")
        assert (inputs["input_ids"] == model.config.image_token_id).sum() == 4
        assert inputs["pixel_values"].shape == (1, 3, 56, 56)
        with torch.no_grad():
            return model(**inputs).logits[0, -1]

    torch.testing.assert_close(logits(9), logits(9))
    assert (logits(0) - logits(255)).abs().max() > 1e-5


def test_an_image_of_any_size_is_one_tile(vlm: Path) -> None:
    processor = AutoProcessor.from_pretrained(vlm)
    for size in ((56, 56), (400, 90), (31, 200)):
        made = processor(text=IMAGE_TOKEN, images=[Image.new("L", size)], return_tensors="pt")
        assert made["pixel_values"].shape == (1, 3, 56, 56)


def test_the_template_takes_image_parts_plain_text_and_a_system_message(vlm: Path) -> None:
    processor = AutoProcessor.from_pretrained(vlm)
    assert processor.apply_chat_template(ASKED, tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>user\n<IMG_CONTEXT>Add up the digits.<|im_end|>\n<|im_start|>assistant\n"
    )
    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": [{"type": "text", "text": "Hi."}]},
    ]
    assert processor.tokenizer.apply_chat_template(chat, tokenize=False) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello.<|im_end|>\n"
        "<|im_start|>assistant\nHi.<|im_end|>\n"
    )


def test_every_loader_finds_the_same_tokenizer(vlm: Path, text: Path) -> None:
    built = tiny_tokenizer()
    loaded = [
        AutoProcessor.from_pretrained(vlm).tokenizer,
        AutoTokenizer.from_pretrained(vlm),
        AutoTokenizer.from_pretrained(text),
    ]
    for tokenizer in loaded:
        assert tokenizer.get_vocab() == built.get_vocab()
        for sample in (*SENTENCES, *EXAMPLES, "<|im_start|>user\n<img>"):
            assert tokenizer.encode(sample) == built.encode(sample)
        assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")


def test_digits_tags_and_known_words_are_single_tokens() -> None:
    pieces = [tiny_tokenizer().decode([i]) for i in tiny_tokenizer().encode(EXAMPLES[1])]
    assert pieces[:5] == ["<think>", "I", " see", " ", "3"]
    assert pieces[-6:] == ["</think>", "\\boxed", "{", "1", "7", "}"]
    assert "|".join(pieces[5:-6]) == ",|5|,|9|.\n|3|+|5|=|8|\n|8|+|9|=|1|7"
    assert len(tiny_tokenizer().encode("What is the sum of the digits?")) == 8


def test_any_text_survives_the_tokenizer_and_the_tags_outlive_special_tokens() -> None:
    tokenizer = tiny_tokenizer()
    for sample in ("Grüße, 12 Ärzte!\n\tπ ≈ 3.14 {x}", "你好 <think>", EXAMPLES[0]):
        assert tokenizer.decode(tokenizer.encode(sample)) == sample
    answer = tokenizer.encode(EXAMPLES[0] + "<|im_end|>")
    assert tokenizer.decode(answer, skip_special_tokens=True) == EXAMPLES[0]


def test_a_seed_gives_the_same_weights_and_leaves_the_caller_s_chance_alone(
    text: Path, tmp_path: Path
) -> None:
    before = torch.get_rng_state()
    build_tiny_text(tmp_path / "again", seed=3)
    build_tiny_text(tmp_path / "other", seed=4)
    assert torch.equal(before, torch.get_rng_state())
    first, again, other = (
        AutoModelForCausalLM.from_pretrained(folder).state_dict()
        for folder in (text, tmp_path / "again", tmp_path / "other")
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
