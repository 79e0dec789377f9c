"""A problem becomes the ids and pixels that transformers' own processor makes of it."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tokenizers.processors import TemplateProcessing
from transformers import AutoProcessor

from configs.schema.data import PromptConfig
from models.inputs.encoder import InputEncoder
from models.tiny.model import build_tiny_vlm
from rl.data.images import open_image
from rl.data.records import Problem
from tests.unit.step_samples import png

SIZES = ((56, 56), (28, 28), (400, 90), (31, 200), (120, 115))


@pytest.fixture(scope="module")
def tiled(vlm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same policy, which cuts an image into up to four tiles and a thumbnail."""
    folder = tmp_path_factory.mktemp("tiled")
    build_tiny_vlm(folder, seed=3)
    processor = AutoProcessor.from_pretrained(folder)
    processor.image_processor.max_patches = 4
    processor.save_pretrained(folder)
    return folder


def encoder_of(folder: Path, **prompt: Any) -> InputEncoder:
    return InputEncoder(folder, PromptConfig(**prompt), trust_remote_code=False)


def problem(question: str, *images: bytes | str) -> Problem:
    return Problem("p", question, ("1",), images)


def assert_as_transformers(encoder: InputEncoder, asked: Problem) -> Any:
    """Ids and pixels equal those of one ordinary call of the chat template with the images."""
    images = [open_image(image) for image in asked.images]
    messages = encoder.messages(asked)
    places = iter(images)
    for message in messages:
        for part in message["content"] if isinstance(message["content"], list) else []:
            if part["type"] == "image":
                part["image"] = next(places)
    made = encoder.processor.apply_chat_template(
        messages, tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    assert encoder.encode(asked) == tuple(made["input_ids"][0].tolist())
    assert encoder.measure(asked) == made["input_ids"].shape[1]
    pixels = encoder.pixels([asked])
    assert pixels.keys() == made.keys() - {"input_ids", "attention_mask"}
    for name, value in pixels.items():
        assert torch.equal(value, made[name])
    return made


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["vlm", "tiled"])
def test_an_image_of_any_size_is_expanded_as_transformers_does(
    kind: str, size: tuple[int, int], request: pytest.FixtureRequest
) -> None:
    encoder = encoder_of(request.getfixturevalue(kind))
    assert_as_transformers(encoder, problem("How many?", png(*size)))


def test_tiles_are_counted_by_the_image_s_shape(tiled: Path) -> None:
    encoder = encoder_of(tiled)
    marks = {
        size: encoder.encode(problem("?", png(*size))).count(encoder.processor.image_token_id)
        for size in ((56, 56), (400, 90), (31, 200))
    }
    # Four tokens a tile; more than one tile brings a thumbnail.
    assert marks == {(56, 56): 4, (400, 90): 4 * 5, (31, 200): 4 * 5}


@pytest.mark.parametrize("kind", ["vlm", "tiled"])
def test_several_images_keep_their_order_and_places(
    kind: str, request: pytest.FixtureRequest
) -> None:
    encoder = encoder_of(request.getfixturevalue(kind), system="Be brief.", suffix="Box it.")
    images = [png(56, 56), png(400, 90, (200, 0, 5)), png(31, 200, (0, 80, 0))]
    asked = problem("Is <image>\nmore than <image>?", *images)
    assert_as_transformers(encoder, asked)
    assert encoder.text(asked) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\n<IMG_CONTEXT>Is <IMG_CONTEXT>\nmore than <IMG_CONTEXT>?\nBox it."
        "<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_turned_photograph_is_measured_upright(tiled: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    file = BytesIO()
    Image.new("RGB", (300, 60), (10, 200, 30)).save(file, "JPEG", exif=exif)
    made = assert_as_transformers(encoder_of(tiled), problem("Which way?", file.getvalue()))
    assert made["pixel_values"].shape[0] == 5


def test_pixels_of_several_problems_follow_one_another(tiled: Path) -> None:
    encoder = encoder_of(tiled)
    problems = [
        problem("a", png(56, 56), png(400, 90)),
        problem("b"),
        problem("c", png(31, 200, (1, 2, 3))),
    ]
    alone = [encoder.pixels([each]) for each in problems]
    assert alone[1] == {}
    together = encoder.pixels(problems)["pixel_values"]
    assert torch.equal(together, torch.cat([alone[0]["pixel_values"], alone[2]["pixel_values"]]))


def test_images_are_read_from_files_as_from_bytes(vlm: Path, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(png(70, 50))
    encoder = encoder_of(vlm)
    from_file, from_bytes = problem("?", str(path)), problem("?", png(70, 50))
    assert encoder.encode(from_file) == encoder.encode(from_bytes)
    assert torch.equal(
        encoder.pixels([from_file])["pixel_values"], encoder.pixels([from_bytes])["pixel_values"]
    )


@pytest.mark.parametrize(
    ("question", "count", "parts"),
    [
        ("How many?", 1, ["#", "How many?"]),
        ("See <image>: how many?", 1, ["See ", "#", ": how many?"]),
        ("<image>", 1, ["#"]),
        ("<image><image>Which?", 2, ["#", "#", "Which?"]),
        ("Which is <image>?", 3, ["#", "#", "Which is ", "#", "?"]),
        ("Sum?", 0, ["Sum?"]),
    ],
)
def test_marks_place_images_and_those_without_a_mark_come_first(
    vlm: Path, question: str, count: int, parts: Sequence[str]
) -> None:
    (message,) = encoder_of(vlm).messages(problem(question, *[png(8, 8)] * count))
    assert [part.get("text", "#") for part in message["content"]] == parts


def test_the_engine_s_form_has_one_token_an_image(vlm: Path) -> None:
    encoder = encoder_of(vlm)
    short = encoder.short_ids(problem("Is <image> it?", png(9, 9), png(400, 90)))
    assert short.count(encoder.processor.image_token_id) == 2
    start, end = encoder.tokenizer.convert_tokens_to_ids(["<img>", "</img>"])
    assert start not in short and end not in short
    assert set(encoder.image_token_ids) == {start, end, encoder.processor.image_token_id}


def test_a_tokenizer_that_starts_texts_with_a_token_does_not_start_images_with_it(
    vlm: Path,
) -> None:
    encoder, plain = encoder_of(vlm), encoder_of(vlm)
    begin = encoder.tokenizer.convert_tokens_to_ids("<|im_start|>")
    encoder.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", begin)]
    )
    assert encoder.tokenizer("1")["input_ids"][0] == begin
    asked = problem("Which?", png(56, 56), png(90, 40))
    assert encoder.encode(asked) == plain.encode(asked)


@pytest.mark.parametrize(
    ("question", "images"),
    [
        ("Is <image> more than <image>?", 1),
        ("What does <IMG_CONTEXT> mean?", 1),
        ("What does <IMG_CONTEXT> mean?", 0),
        ("What is in <image>?", 0),
    ],
)
def test_marks_and_image_tokens_beyond_the_images_are_refused(
    vlm: Path, question: str, images: int
) -> None:
    encoder = encoder_of(vlm)
    with pytest.raises(ValueError, match=f"image tokens for {images} images"):
        encoder.measure(problem(question, *[png(9, 9)] * images))


def test_more_images_than_the_recipe_allows_are_refused(vlm: Path) -> None:
    encoder = encoder_of(vlm, max_images=1)
    assert encoder.measure(problem("?", png(9, 9))) > 0
    with pytest.raises(ValueError, match=r"2 images are more than prompt\.max_images=1"):
        encoder.measure(problem("?", png(9, 9), png(9, 9)))


def test_a_text_only_policy_reads_text_and_refuses_images(text: Path, vlm: Path) -> None:
    encoder = encoder_of(text, system="Be brief.", suffix="Box it.")
    asked = problem("What is the sum of 3, 5?")
    assert not encoder.has_vision
    assert encoder.image_token_ids == ()
    assert encoder.pixels([asked]) == {}
    assert encoder.encode(asked) == encoder.short_ids(asked)
    assert encoder.encode(asked) == encoder_of(vlm, system="Be brief.", suffix="Box it.").encode(
        asked
    )
    with pytest.raises(ValueError, match="reads text only"):
        encoder.measure(problem("Which?", png(9, 9)))


def test_think_tags_outlive_decoding_and_special_tokens_do_not(vlm: Path) -> None:
    encoder = encoder_of(vlm)
    ids = encoder.tokenizer.encode("<think>3+5=8</think>\\boxed{8}<|im_end|>")
    assert encoder.decode(ids) == "<think>3+5=8</think>\\boxed{8}"
    assert encoder.pad_id == encoder.tokenizer.pad_token_id


def test_scaled_pictures_give_the_ids_and_pixels_of_pictures_of_that_size(tiled: Path) -> None:
    large = png(400, 90)
    scaled = encoder_of(tiled, max_pixels=9_000)
    whole, asked = encoder_of(tiled), problem("What?", large)
    small = scaled.images.open(large)
    assert small.size == (200, 45)
    file = BytesIO()
    small.save(file, "PNG")
    same = problem("What?", file.getvalue())
    assert scaled.encode(asked) == whole.encode(same)
    assert scaled.image_tokens(large) == whole.image_tokens(file.getvalue())
    shown = scaled.pixels([asked])["pixel_values"]
    assert torch.equal(shown, whole.pixels([same])["pixel_values"])
    assert not torch.equal(shown, whole.pixels([asked])["pixel_values"])
