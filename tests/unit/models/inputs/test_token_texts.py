"""Texts of tokens add up to the text of all, whatever a tokenizer does to spaces and bytes."""

from collections.abc import Callable
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from models.inputs.token_texts import TokenTexts
from models.tiny.model import tiny_tokenizer

SAID = "a b. Die Größe, 数 = 3\n\n🙂🙂 , n't"


def sentencepiece() -> PreTrainedTokenizerFast:
    """Words begin with a mark, which the decoder takes off a text's first word."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.train_from_iterator([SAID, "a"], trainers.BpeTrainer(vocab_size=60))
    return PreTrainedTokenizerFast(tokenizer_object=made)


@pytest.mark.parametrize("make", [tiny_tokenizer, sentencepiece])
def test_texts_add_up_to_what_the_tokenizer_makes_of_all(make: Callable[[], Any]) -> None:
    tokenizer = make()
    ids = tokenizer(SAID, add_special_tokens=False)["input_ids"]
    texts = TokenTexts(tokenizer)(ids)
    assert len(texts) == len(ids) > 8
    assert "".join(texts).lstrip() == tokenizer.decode(ids) == SAID


def test_a_character_of_several_tokens_stands_at_the_last_of_them() -> None:
    tokenizer = tiny_tokenizer()
    ids = tokenizer("é3🙂", add_special_tokens=False)["input_ids"]
    assert TokenTexts(tokenizer)(ids) == ["", "é", "3", "", "", "", "🙂"]


def test_bytes_that_are_no_character_are_shown_as_such_and_cost_no_token() -> None:
    tokenizer = tiny_tokenizer()
    first, *rest = tokenizer("🙂", add_special_tokens=False)["input_ids"]
    three = tokenizer("3", add_special_tokens=False)["input_ids"]
    broken = [first] * 5 + three + rest[:2]
    texts = TokenTexts(tokenizer)(broken)
    assert len(texts) == len(broken)
    assert set("".join(texts)) == {"\N{REPLACEMENT CHARACTER}", "3"}


def test_special_tokens_are_told_by_name() -> None:
    tokenizer = tiny_tokenizer()
    ids = [*tokenizer("3", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    assert TokenTexts(tokenizer)(ids) == ["3", tokenizer.eos_token]
