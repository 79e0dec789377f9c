"""The one reader of think tags: thoughts, final part, and what breaks the template."""

import pytest

from configs.schema.reward import ThinkingConfig
from rl.data.thinking import (
    AnswerParts,
    has_thoughts,
    split_thinking,
    template_fault,
    think_then_answer,
)


@pytest.mark.parametrize(
    ("text", "prompt_opens", "thoughts", "final"),
    [
        ("<think>3+5</think>8", False, "3+5", "8"),
        ("3+5</think>8", True, "3+5", "8"),
        ("<think>a</think>b</think>8", False, "a", "8"),
        ("3+5</think>8", False, None, "8"),
        ("</think>a<think>b", False, None, "a<think>b"),
        ("<think>3+5", False, None, None),
        ("3+5", True, None, None),
        ("8", False, None, "8"),
    ],
)
def test_thoughts_end_at_the_first_close_tag_and_the_answer_starts_after_the_last(
    text: str, prompt_opens: bool, thoughts: str | None, final: str | None
) -> None:
    parts = split_thinking(text, ThinkingConfig(prompt_opens=prompt_opens))
    assert parts == AnswerParts(thoughts, final)


@pytest.mark.parametrize("prompt_opens", [False, True])
def test_what_is_written_in_the_template_keeps_it_and_is_read_back(prompt_opens: bool) -> None:
    thinking = ThinkingConfig(open_tag="[R]", close_tag="[/R]", prompt_opens=prompt_opens)
    text = think_then_answer("3+5", "8", thinking)
    assert split_thinking(text, thinking) == AnswerParts("3+5", "8")
    assert has_thoughts(text, thinking)
    assert template_fault(text, thinking) == ""
