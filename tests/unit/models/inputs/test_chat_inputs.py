"""A chat becomes the tokens that transformers makes of it, and its answers are what is learned."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from configs.schema.data import PromptConfig
from models.inputs.encoder import InputEncoder
from models.tiny.model import build_tiny_text, build_tiny_vlm
from rl.data.images import open_image
from rl.data.records import Chat, Problem, Turn
from tests.unit.step_samples import png
from tests.vision_families import build_llava, build_qwen2_5_vl

BUILDERS: dict[str, Callable[[Path], None]] = {
    "internvl": lambda folder: build_tiny_vlm(folder, seed=3),
    "qwen2.5-vl": build_qwen2_5_vl,
    "llava": build_llava,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {name: tmp_path_factory.mktemp(name) for name in BUILDERS}
    for name, build in BUILDERS.items():
        build(made[name])
    return made


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> InputEncoder:
    folder = tmp_path_factory.mktemp("text")
    build_tiny_text(folder, seed=3)
    return encoder_of(folder)


def encoder_of(folder: Path, **prompt: Any) -> InputEncoder:
    return InputEncoder(folder, PromptConfig(**prompt), trust_remote_code=False)


def user(text: str) -> Turn:
    return Turn("user", text)


def assistant(text: str, learned: bool = True) -> Turn:
    return Turn("assistant", text, learned)


LONG = Chat(
    "long",
    (
        Turn("system", "Be kind."),
        user("Is <image>\nmore than <image>?"),
        assistant("<think>3,5</think>no"),
        user("And <image>?"),
        assistant("yes"),
    ),
    (png(56, 56), png(90, 40), png(31, 99)),
)
WORDS = Chat("words", (user("3+5?"), assistant("8", False), user("5+9?"), assistant("14")))


def learned_text(encoder: InputEncoder, chat: Chat) -> list[str]:
    """The learned stretches of tokens, each decoded, special tokens shown."""
    encoded = encoder.encode_chat(chat)
    stretches: list[list[int]] = [[]]
    for i, learn in zip(encoded.ids, encoded.loss_mask, strict=True):
        if learn:
            stretches[-1].append(i)
        elif stretches[-1]:
            stretches.append([])
    return [encoder.tokenizer.decode(ids) for ids in stretches if ids]


@pytest.mark.parametrize("family", BUILDERS)
def test_ids_and_pixels_are_those_of_transformers_own_call(
    family: str, folders: dict[str, Path]
) -> None:
    encoder = encoder_of(folders[family])
    images = iter([open_image(image) for image in LONG.images])
    messages: list[dict[str, Any]] = []
    for turn in LONG.turns:
        parts: list[dict[str, Any]] = []
        for i, piece in enumerate(turn.text.split("<image>")):
            parts += [{"type": "image", "image": next(images)}] if i else []
            parts += [{"type": "text", "text": piece}]
        messages.append({"role": turn.role, "content": parts})
    made = encoder.processor.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_tensors="pt"
    )
    encoded = encoder.encode_chat(LONG)
    assert encoded.ids == tuple(made["input_ids"][0].tolist())
    assert encoder.measure_chat(LONG) == len(encoded.ids) == len(encoded.loss_mask)
    pixels = encoder.pixels([LONG])
    assert all(torch.equal(value, made[name]) for name, value in pixels.items())
    assert learned_text(encoder, LONG) == ["<think>3,5</think>no<|im_end|>", "yes<|im_end|>"]


def test_the_loss_mask_worked_by_hand(text: InputEncoder) -> None:
    encoded = text.encode_chat(WORDS)
    shown = list(
        zip(text.tokenizer.convert_ids_to_tokens(encoded.ids), encoded.loss_mask, strict=True)
    )
    question = [("<|im_start|>", False), ("user", False), ("Ċ", False)]
    opened = [("<|im_end|>", False), ("Ċ", False), ("<|im_start|>", False), ("assistant", False)]
    assert shown == [
        *question, *[(piece, False) for piece in "3+5?"], *opened, ("Ċ", False),
        ("8", False), ("<|im_end|>", False), ("Ċ", False),
        *question, *[(piece, False) for piece in "5+9?"], *opened, ("Ċ", False),
        ("1", True), ("4", True), ("<|im_end|>", True), ("Ċ", False),
    ]  # fmt: skip


def test_a_prompt_of_rollouts_and_one_of_chats_are_the_same_tokens(
    folders: dict[str, Path],
) -> None:
    encoder = encoder_of(folders["internvl"], system="Be brief.", suffix="Box it.")
    image = png(90, 40)
    problem = Problem("p", "How <image> many?", ("8",), (image,))
    chat = Chat("c", (user("How <image> many?"), assistant("8")), (image,))
    encoded = encoder.encode_chat(chat)
    prompt = encoder.encode(problem)
    assert encoded.ids[: len(prompt)] == prompt
    assert not any(encoded.loss_mask[: len(prompt)]) and encoded.loss_mask[len(prompt)]
    # A system message of the chat's own stands in for the recipe's.
    own = Chat("o", (Turn("system", "Be kind."), *chat.turns), (image,))
    told = encoder.decode(encoder.encode_chat(own).ids)
    assert "Be kind." in told and "Be brief." not in told


def test_an_answer_is_cut_into_tokens_apart_from_its_prompt(text: InputEncoder) -> None:
    prompt = text.encode(Problem("p", "3+5?", ("8",)))
    answer = text.tokenizer("\n8<|im_end|>", add_special_tokens=False)["input_ids"]
    encoded = text.encode_chat(Chat("c", (user("3+5?"), assistant("\n8"))))
    assert encoded.ids[: len(prompt) + len(answer)] == (*prompt, *answer)


def test_a_template_of_a_reasoner_that_opens_the_chain_is_followed(tmp_path: Path) -> None:
    build_tiny_text(tmp_path, seed=3)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "<|im_start|>assistant\n", "<|im_start|>assistant\n<think>\n"
    ).replace("{{ message.content }}", "{{ message.content.split('</think>')[-1] }}")
    tokenizer.save_pretrained(tmp_path)
    encoder = encoder_of(tmp_path)
    chat = Chat("c", (user("3+5?"), assistant("<think>\n3+5=8</think>8")))
    assert learned_text(encoder, chat) == ["3+5=8</think>8<|im_end|>"]
    prompt = encoder.encode(Problem("p", "3+5?", ("8",)))
    assert encoder.encode_chat(chat).ids[: len(prompt)] == prompt
    with pytest.raises(ValueError, match="opens each answer with '<think>'"):
        encoder.measure_chat(Chat("c", (user("3+5?"), assistant("8"))))


@pytest.mark.parametrize("spelt", ["<img>", "<IMG_CONTEXT>"])
def test_answers_that_spell_image_tokens_are_refused(spelt: str, folders: dict[str, Path]) -> None:
    encoder = encoder_of(folders["internvl"])
    with pytest.raises(ValueError, match=f"spells '{spelt}' out"):
        encoder.encode_chat(Chat("c", (user("html?"), assistant(f"use {spelt}"))))
    with pytest.raises(ValueError, match="0 image tokens for 1 images"):
        encoder.encode_chat(Chat("c", (user("?"), assistant("a")), (png(9, 9),)))


def test_what_a_template_or_policy_does_not_take_is_refused(
    text: InputEncoder, folders: dict[str, Path]
) -> None:
    with pytest.raises(ValueError, match="reads text only"):
        text.measure_chat(LONG)
    few = encoder_of(folders["internvl"], max_images=2)
    with pytest.raises(ValueError, match=r"3 images are more than prompt\.max_images=2"):
        few.measure_chat(LONG)
    few.processor.chat_template = "{{ raise_exception('users and assistants take turns') }}"
    with pytest.raises(ValueError, match="template refuses the chat: users and assistants take"):
        few.measure_chat(WORDS)
