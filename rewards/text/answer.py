"""Finds the final answer in a model's text. Linear in the text's length, whatever the text."""

import re

from configs.schema.reward import ThinkingConfig
from rl.data.records import Verdict
from rl.data.thinking import split_thinking

NO_ANSWER = Verdict(0.0, "no_answer", "no box and no answer line after the thoughts")
"""The verdict on a text in which `final_answer` finds none."""

_BOX = re.compile(r"\\f?box(?:ed)?(?![A-Za-z])\s*")
_OPENS_MATH = re.compile(r"(?:\$|\\[(\[]|\\displaystyle(?![A-Za-z])|\s)*")
_BARE = re.compile(r"[^\s{}\\$.,;]{1,100}")
_MAX_BOXES_IN_BOXES = 8
_BRACES = re.compile(r"\\.|[{}]", re.DOTALL)
_ANSWER_LINE = re.compile(r"\b(?:final )?answer(?: is)?\b[ \t*_]*[:\uff1a=][ \t*_]*", re.IGNORECASE)
_ANSWER_IS = re.compile(r"\banswer is[ \t*_]+", re.IGNORECASE)


def final_answer(text: str, thinking: ThinkingConfig) -> str | None:
    r"""The answer that the text gives, or None.

    The last complete `\boxed{...}` or `\fbox{...}` after the thoughts, boxes within it taken off;
    without one, the rest of the last line that says "Answer:" or "answer is".
    """
    tail = split_thinking(text, thinking).final
    if tail is None:
        return None
    boxed = last_box(tail)
    return boxed if boxed is not None else _stated(tail)


def last_box(text: str) -> str | None:
    r"""Content of the last `\boxed` or `\fbox` whose braces close; None when there is none."""
    content = _last_box(text)
    for _ in range(_MAX_BOXES_IN_BOXES):
        if content is None or not _BOX.match(content, _past_dollars(content)):
            break
        content = _last_box(content)
    return content


def _past_dollars(text: str) -> int:
    """Where what opens a formula at the beginning of `text` ends."""
    opens = _OPENS_MATH.match(text)
    return opens.end() if opens else 0


def _last_box(text: str) -> str | None:
    starts = list(_BOX.finditer(text))
    closing = _matching_braces(text) if starts else {}
    last, end = None, -1
    for start in starts:
        at = start.end()
        if start.start() < end:
            continue  # within the box before it
        if at in closing:
            last, end = text[at + 1 : closing[at]], closing[at]
        elif bare := _BARE.match(text, at):
            last, end = bare[0], bare.end()
    return None if last is None else last.strip()


def _matching_braces(text: str) -> dict[int, int]:
    """Where each opening brace of `text` closes; escaped braces and unclosed ones left out."""
    opened: list[int] = []
    closing: dict[int, int] = {}
    for brace in _BRACES.finditer(text):
        if brace[0] == "{":
            opened.append(brace.start())
        elif brace[0] == "}" and opened:
            closing[opened.pop()] = brace.start()
    return closing


def _stated(text: str) -> str | None:
    """The rest of the last line that states an answer, trailing marks taken off."""
    found = None
    for pattern in (_ANSWER_IS, _ANSWER_LINE):
        for match in pattern.finditer(text):
            if found is None or match.end() > found:
                found = match.end()
    if found is None:
        return None
    line = text[found:].lstrip("\n \t").partition("\n")[0].strip().strip("*_").strip()
    return line.removesuffix(".").strip() or None
