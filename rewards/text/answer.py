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
_MAX_BOXES = 32
_BRACES = re.compile(r"\\.|[{}]", re.DOTALL)
_NAMES = (
    r"(?:final |correct )?answer|答案|réponse|respuesta|resposta|risposta|antwort|lösung|ответ|"
    r"الجواب"
)
_ANSWER_LINE = re.compile(
    rf"(?:\b|(?<=[^\W\d_]))(?:{_NAMES})(?: is|是|为)?[ \t*_]*[:\uff1a=][ \t*_]*", re.IGNORECASE
)
_ANSWER_IS = re.compile(
    r"\banswers? (?:is|are|should be|must be|comes? (?:out )?to|equals)[ \t*_:]+|答案[是为]\s*",
    re.IGNORECASE,
)
_HEADING = re.compile(r"(?:^|\n)[ \t#*_]*(?:final )?answer[ \t*_:]*(?:\n\s*)+", re.IGNORECASE)
_HASHES = re.compile(r"(?:^|\n)[ \t]*####[ \t]*(?=\S)|(?<=[.\s])####[ \t]+(?=\S)")
_TAG = re.compile(r"<answer>", re.IGNORECASE)
_TAG_ENDS = re.compile(r"</answer>", re.IGNORECASE)
_STATEMENTS = (_ANSWER_IS, _ANSWER_LINE, _HEADING, _HASHES)
_FORMULA = re.compile(r"\$\$?([^$]+)\$\$?|\\\((.+?)\\\)|\\\[(.+?)\\\]")
_BOLD = re.compile(r"\*\*([^*\n]{1,300})\*\*")
_SENTENCE_ENDS = re.compile(
    r"(?<=[^\s.])[.。](?=\s+[A-Z*])|[,;:] (?:because|since|as|so|which|where|and the)\b"
    r"|\s+because\b"
)


def final_answer(text: str, thinking: ThinkingConfig) -> str | None:
    r"""The answer that the text gives, or None.

    The last complete `\boxed{...}` or `\fbox{...}` after the thoughts, boxes within it taken off;
    without one, what `<answer>` tags hold; without those, what follows the last "Answer:",
    "answer is", `####` or heading "Final Answer".
    """
    tail = split_thinking(text, thinking).final
    if tail is None:
        return None
    boxed = last_box(tail)
    return boxed if boxed is not None else stated(tail)


def all_boxes(text: str, thinking: ThinkingConfig) -> list[str]:
    """What the boxes after the thoughts hold, in order, repeated ones once; at most 32."""
    tail = split_thinking(text, thinking).final
    return list(dict.fromkeys(_boxes(tail)[-_MAX_BOXES:])) if tail else []


def undressed(text: str) -> str:
    """A gold answer without the box, tags, stars or sentence that data sets put around it."""
    boxed = last_box(text)
    if boxed is not None:
        return boxed
    if (said := stated(text)) is not None:
        return said
    bold = _BOLD.fullmatch(text.strip())
    return bold[1] if bold else text.strip()


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
    found = _boxes(text)
    return found[-1] if found else None


def _boxes(text: str) -> list[str]:
    """Contents of the outermost boxes whose braces close."""
    starts = list(_BOX.finditer(text))
    closing = _matching_braces(text) if starts else {}
    found: list[str] = []
    end = -1
    for start in starts:
        at = start.end()
        if start.start() < end:
            continue  # within the box before it
        if at in closing:
            found.append(text[at + 1 : closing[at]].strip())
            end = closing[at]
        elif bare := _BARE.match(text, at):
            found.append(bare[0].strip())
            end = bare.end()
    return found


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


def stated(text: str) -> str | None:
    """What a text without boxes says its answer is; None where it says none."""
    opened = [match.end() for match in _TAG.finditer(text)]
    if opened:
        inner = _TAG_ENDS.split(text[opened[-1] :], maxsplit=1)[0].strip()
        return _core(inner) or None
    found = None
    for pattern in _STATEMENTS:
        for match in pattern.finditer(text):
            if found is None or match.end() > found:
                found = match.end()
    if found is None:
        return None
    line = text[found:].lstrip("\n \t").partition("\n")[0].strip()
    return _core(line) or None


def _core(line: str) -> str:
    """The answer at the beginning of a line, what is said after it left out."""
    bold = _BOLD.match(line)
    if bold:
        return bold[1].strip()
    line = line.replace("**", "")
    line = _SENTENCE_ENDS.split(line, maxsplit=1)[0].strip()
    formula = _FORMULA.match(line)
    if formula and not re.match(r"\s*[\w(,]", line[formula.end() :].replace(" because", "")):
        line = next(group for group in formula.groups() if group is not None)
    return line.strip("*_ \t").removesuffix(".").strip()
