"""A language model's template says what it said, and can now place images."""

from typing import Any

import pytest

from models.assembly.chat_template import placing_images, without_images
from tests.unit.models.assembly.parts import QWEN2, QWEN3, R1_DISTILL, byte_tokenizer

IMAGE = {"type": "image"}
TEMPLATES = {"qwen2": QWEN2, "qwen3": QWEN3, "r1-distill": R1_DISTILL}
TALK = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "How many?"},
    {"role": "assistant", "content": "<think>\none, two\n</think>\n\nTwo."},
    {"role": "user", "content": "Sure?"},
]


def said(template: str, messages: list[dict[str, Any]], **more: Any) -> str:
    tokenizer = byte_tokenizer()
    return tokenizer.apply_chat_template(
        messages, chat_template=template, tokenize=False, add_generation_prompt=True, **more
    )


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("length", [2, 4])
def test_texts_are_set_as_before(name: str, length: int) -> None:
    template, talk = TEMPLATES[name], TALK[:length]
    assert said(placing_images(template), talk) == said(template, talk)
    parts = [m | {"content": [{"type": "text", "text": m["content"]}]} for m in talk]
    assert said(placing_images(template), parts) == said(template, talk)


@pytest.mark.parametrize("name", TEMPLATES)
def test_images_stand_where_they_were_put(name: str) -> None:
    first, second = {"type": "text", "text": "Left "}, {"type": "text", "text": " right?"}
    url = {"type": "image_url", "image_url": {"url": "data:"}}
    parts = [{"role": "user", "content": [IMAGE, first, url, second]}]
    flat = [{"role": "user", "content": "<IMG_CONTEXT>Left <IMG_CONTEXT> right?"}]
    text = said(placing_images(TEMPLATES[name]), parts)
    assert text == said(TEMPLATES[name], flat) and text.count("<IMG_CONTEXT>") == 2


def test_think_tags_open_the_answer_of_a_reasoner() -> None:
    asked = [{"role": "user", "content": [IMAGE, {"type": "text", "text": "?"}]}]
    text = said(placing_images(R1_DISTILL), asked)
    assert text == "<|begin|><|User|><IMG_CONTEXT>?<|Assistant|><think>\n"
    ended = said(placing_images(QWEN3), asked, enable_thinking=False)
    assert ended.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


def test_what_stands_beside_the_content_is_kept() -> None:
    answer = {"role": "assistant", "content": [{"type": "text", "text": "Two."}]}
    talk = [TALK[1], answer | {"reasoning_content": "one, two"}]
    assert "<think>\none, two\n</think>\n\nTwo." in said(placing_images(QWEN3), talk)
    silent = [{"role": "user", "content": "a"}, {"role": "assistant", "content": None}]
    assert said(placing_images(R1_DISTILL), silent) == said(R1_DISTILL, silent)


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_is_changed_once_and_can_be_had_back(name: str) -> None:
    changed = placing_images(TEMPLATES[name])
    assert placing_images(changed) == changed
    assert without_images(changed) == TEMPLATES[name] == without_images(TEMPLATES[name])
