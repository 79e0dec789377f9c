"""The think template: an answer's chain of thought in tags, then its final part."""

from typing import NamedTuple

from configs.schema.reward import ThinkingConfig


class AnswerParts(NamedTuple):
    """An answer's text, split at its think tags."""

    thoughts: str | None
    """From the first open tag (or the start, where the prompt opens) to the first close tag; None
    where either is missing."""
    final: str | None
    """After the last close tag; all of a text without tags; None where the thoughts never end."""


def split_thinking(text: str, thinking: ThinkingConfig) -> AnswerParts:
    """Split an answer into its thoughts and its final part, in linear time."""
    head, closed, _ = text.partition(thinking.close_tag)
    if not closed:
        unfinished = thinking.prompt_opens or thinking.open_tag in text
        return AnswerParts(None, None if unfinished else text)
    final = text.rpartition(thinking.close_tag)[2]
    if thinking.prompt_opens:
        return AnswerParts(head, final)
    _, opened, thoughts = head.partition(thinking.open_tag)
    return AnswerParts(thoughts if opened else None, final)


def has_thoughts(text: str, thinking: ThinkingConfig) -> bool:
    """True when there is something between the think tags; an open tag repeated is nothing."""
    thoughts, _ = split_thinking(text, thinking)
    return bool((thoughts or "").replace(thinking.open_tag, "").strip())


def template_fault(text: str, thinking: ThinkingConfig) -> str:
    """What breaks the template in `text`; empty where it is kept.

    Tags stand once each and in order, only white space before the open tag, thoughts between them
    (unless `allow_empty`), an answer after. Where the prompt opens, no open tag may come.
    """
    opens, closes = text.count(thinking.open_tag), text.count(thinking.close_tag)
    expected = 0 if thinking.prompt_opens else 1
    if opens != expected:
        return f"{thinking.open_tag} stands {opens} times, not {expected}"
    if closes != 1:
        return f"{thinking.close_tag} stands {closes} times, not once"
    thoughts, final = split_thinking(text, thinking)
    if thoughts is None:
        return f"{thinking.close_tag} stands before {thinking.open_tag}"
    if expected and text.partition(thinking.open_tag)[0].strip():
        return f"text before {thinking.open_tag}"
    if not thinking.allow_empty and not thoughts.strip():
        return "nothing between the tags"
    return "" if final and final.strip() else f"no answer after {thinking.close_tag}"


def think_then_answer(thoughts: str, final: str, thinking: ThinkingConfig) -> str:
    """An answer that keeps the template."""
    opened = "" if thinking.prompt_opens else thinking.open_tag
    return f"{opened}{thoughts}{thinking.close_tag}{final}"
