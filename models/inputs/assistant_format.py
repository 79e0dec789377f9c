"""What of a chat the model has to say itself, told by rendering its template turn by turn.

An answer is what a model would generate: everything between the prompt, which is the template's
render of the turns before with its opening of an answer, and the end of the turn, that included.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from rl.data.records import Turn

Render = Callable[[Sequence[Turn], bool], str]
"""The template's text of some turns; True: with its opening of an assistant's turn behind them."""
_PROBE = "Probe5"
_SHOWN = 40


@dataclass(frozen=True, slots=True)
class AssistantFormat:
    """How a template begins and ends what the assistant says."""

    opening: str
    """What a prompt already says in the assistant's stead, such as `<think>`; usually empty."""
    end: str
    """What ends the turn; the last of it is a special token."""


def assistant_format(render: Render, special: Collection[str]) -> AssistantFormat:
    """The style of a template, told by an answer put through it.

    Args:
        render: the template.
        special: texts of the tokens that no ordinary text is made of.

    Raises:
        ValueError: the template leaves answers out, or ends none with a special token: a model
            taught so would never stop.
    """
    asked = [Turn("user", "?")]
    prompt, whole = render(asked, True), render([*asked, Turn("assistant", _PROBE)], False)
    before, found, after = whole.partition(_PROBE)
    if not found:
        raise ValueError("the chat template leaves out what the assistant says")
    ends = [(after.index(token), -len(token), token) for token in special if token in after]
    if not ends:
        raise ValueError(
            f"the chat template ends an answer with {after!r}, which holds no special token: a "
            "model taught so would never stop; give the checkpoint a template that ends turns"
        )
    place, _, token = min(ends)
    opening = prompt[_shared(prompt, before) :]
    return AssistantFormat(opening=opening, end=after[:place] + token)


def masked_pieces(
    render: Render, turns: Sequence[Turn], style: AssistantFormat
) -> list[tuple[str, bool]]:
    """The chat's text in pieces, each learned as a whole or not at all.

    The last turn is learned, an assistant's. Where the template would leave out a part of it (its
    chain of thought) or not restate what the prompt opens, its own text goes behind the prompt.

    Raises:
        ValueError: an answer before the last stands in the text otherwise than as the answer that
            its prompt asks for, because the template writes it anew; or the last does not begin
            with what the prompt opens.
    """
    last = len(turns) - 1
    prompt = render(turns[:last], True)
    text = render(turns, False)
    stop = _end_of_answer(text, prompt, turns[last].text, style.end)
    if stop is None:
        text = prompt + _continued(turns[last].text, style)
        stop = len(text)
    spans = [(len(prompt), stop)]
    for i in reversed(range(last)):
        if turns[i].role == "assistant" and turns[i].trained:
            prompt = render(turns[:i], True)
            stop = _end_of_answer(text, prompt, turns[i].text, style.end)
            if stop is None:
                raise ValueError(_rewritten(i, turns[i].text, prompt, text))
            spans.append((len(prompt), stop))
    pieces: list[tuple[str, bool]] = []
    done = 0
    for start, stop in reversed(spans):
        pieces += [(text[done:start], False), (text[start:stop], True)]
        done = stop
    return [*pieces, (text[done:], False)]


def _end_of_answer(text: str, prompt: str, answer: str, end: str) -> int | None:
    """Where in `text` the turn behind `prompt` ends; None if it does not hold all of `answer`.

    Templates set line breaks of their own, so whitespace counts for nothing; what they add before
    an answer is the model's to say.
    """
    close = text.find(end, len(prompt)) if text.startswith(prompt) else -1
    if close < 0 or not _bare(text[:close]).endswith(_bare(answer)):
        return None
    return close + len(end)


def _continued(answer: str, style: AssistantFormat) -> str:
    """What is left to say of `answer` where the prompt has opened it, and the end of the turn."""
    opening = style.opening.strip()
    if not answer.lstrip().startswith(opening):
        raise ValueError(
            f"the chat template opens each answer with {opening!r}, but this one begins with "
            f"{answer[:_SHOWN]!r}; begin it with {opening!r}"
        )
    if opening:
        answer = answer.lstrip().removeprefix(opening)
        answer = answer.lstrip() if style.opening[-1].isspace() else answer
    return answer + style.end


def _rewritten(turn: int, answer: str, prompt: str, text: str) -> str:
    if text.startswith(prompt):
        where = f"of {answer[:_SHOWN]!r} it leaves {text[len(prompt) :][:_SHOWN]!r}"
    else:
        place = _shared(prompt, text)
        asked, stands = (each[max(0, place - _SHOWN // 2) :][:_SHOWN] for each in (prompt, text))
        where = f"the prompt has {asked!r} where the whole chat has {stands!r}"
    return (
        f"turn {turn} cannot be learned as part of a longer chat, since the chat template writes "
        f"it anew there: {where}; set data.turns=last"
    )


def _bare(text: str) -> str:
    return "".join(text.split())


def _shared(one: str, other: str) -> int:
    """Characters that two texts have in common from their start."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))
