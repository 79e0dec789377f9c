"""The laptop's ingredients learn what they are for, repeatably, and never what joins them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoImageProcessor, AutoModel, AutoModelForCausalLM

from models.tiny.model import TinySize, tiny_image_processor, tiny_pixels, tiny_tokenizer
from models.tiny.pretraining import (
    PretrainConfig,
    _answer_loss,
    _folded,
    language_lines,
    pretrained_language,
    pretrained_tower,
)
from rl.digits.problems import EMPTY, Drawing, drawn_digits

SHORT = PretrainConfig(steps=6, batch=16, seed=0)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts") / "base"
    losses = list(pretrained_language(folder, SHORT, {"list": 0.5, "plain": 0.5}))
    assert len(losses) == 6 and losses[-1] < losses[0]
    return folder


def test_a_tower_learns_and_is_written_with_its_image_processor(tmp_path: Path) -> None:
    losses = list(pretrained_tower(tmp_path / "tower", SHORT))
    assert len(losses) == 6 and min(losses[3:]) < losses[0]
    assert AutoModel.from_pretrained(tmp_path / "tower").config.hidden_size == 64
    assert AutoImageProcessor.from_pretrained(tmp_path / "tower").image_mean == (0.9,) * 3


def test_labels_name_quadrants_in_reading_order_and_blank_paper() -> None:
    drawing = Drawing(noise=0.0)
    pictures, labels = drawn_digits("train", 40, np.random.default_rng(0), drawing)
    assert labels.max() == EMPTY and labels.min() == 0
    quadrants = pictures.reshape(40, 2, 28, 2, 28).transpose(0, 1, 3, 2, 4).reshape(40, 4, -1)
    assert ((quadrants.min(axis=2) == 255) == (labels == EMPTY)).all()


def test_features_are_folded_quadrant_by_quadrant_as_the_whole_model_folds_them() -> None:
    class Echo:
        """A tower that gives each patch its own number."""

        def __call__(self, pixel_values: torch.Tensor) -> "Echo":
            return self

        last_hidden_state = torch.arange(-1.0, 16.0)[None, :, None]

    folded = _folded(Echo(), torch.zeros(1))  # type: ignore[arg-type]
    assert folded.tolist() == [[[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]]


def test_pixels_made_in_one_go_are_the_processor_s() -> None:
    pictures, _ = drawn_digits("train", 3, np.random.default_rng(0), Drawing())
    made = tiny_image_processor(TinySize())(
        [np.repeat(picture[None], 3, axis=0) for picture in pictures], return_tensors="pt"
    )
    torch.testing.assert_close(made["pixel_values"], tiny_pixels(pictures))


def test_the_same_seed_gives_the_same_part(base: Path, tmp_path: Path) -> None:
    list(pretrained_language(tmp_path / "again", SHORT, {"list": 0.5, "plain": 0.5}))
    first, again = (
        AutoModelForCausalLM.from_pretrained(folder).state_dict()
        for folder in (base, tmp_path / "again")
    )
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_a_descendant_begins_at_its_parent(base: Path, tmp_path: Path) -> None:
    still = PretrainConfig(steps=1, batch=2, seed=1, lr=1e-12)
    list(pretrained_language(tmp_path / "child", still, {"chain": 1.0}, base))
    parent, child = (
        AutoModelForCausalLM.from_pretrained(folder).state_dict()
        for folder in (base, tmp_path / "child")
    )
    for name, weight in parent.items():
        torch.testing.assert_close(child[name], weight, rtol=0, atol=1e-9)


def test_an_unfinished_part_leaves_no_folder(tmp_path: Path) -> None:
    lessons = pretrained_language(tmp_path / "part", SHORT, {"chain": 1.0})
    next(lessons)
    lessons.close()
    assert not list(tmp_path.iterdir())


def test_lines_show_pictures_in_words_and_end_with_the_end_token() -> None:
    tokenizer = tiny_tokenizer()
    lines = language_lines(tokenizer, 40, np.random.default_rng(0), {"list": 0.5, "plain": 0.5})
    prompts = [tokenizer.decode(prompt) for prompt, _ in lines]
    assert all(answer[-1] == tokenizer.eos_token_id for _, answer in lines)
    assert all(("Which" in prompt) <= ("<img>" in prompt) for prompt in prompts)
    assert any("<img>" in prompt and "Which" not in prompt for prompt in prompts)
    assert any("<img>" not in prompt for prompt in prompts)


def test_the_loss_is_the_mean_over_answer_tokens_however_lines_are_padded(base: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    tokenizer = tiny_tokenizer()
    lines = language_lines(tokenizer, 5, np.random.default_rng(0), {"plain": 0.5, "chain": 0.5})
    with torch.no_grad():
        alone = sum(
            _answer_loss(model, [line], tokenizer.pad_token_id) * len(line[1]) for line in lines
        )
        together = _answer_loss(model, lines, tokenizer.pad_token_id)
    torch.testing.assert_close(together, alone / sum(len(answer) for _, answer in lines))
