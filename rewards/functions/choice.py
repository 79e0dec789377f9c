"""The `choice` reward: the answer names the right option, by its letter or by its text."""

import re
from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import cast

from configs.schema.reward import ThinkingConfig
from rewards.completion import Completion, bad_gold
from rewards.text.answer import final_answer
from rewards.text.normalise import normalise, same_text
from rl.data.records import Problem, Verdict
from rl.data.thinking import split_thinking

_WRAPPER = re.compile(
    r"\\(?:text(?:bf|it|rm)?|math(?:rm|bf|it|sf|bb)|mbox|boldsymbol|operatorname)\s*\{([^{}]*)\}"
)
_NOISE = re.compile(r"[*_$`\\{}]+")
_SAID_FIRST = re.compile(
    r"^(?:the )?(?:correct |right |final )?(?:answers?|options?|choices?)(?: is| are)?[ :]*",
    re.IGNORECASE,
)
_ONE = r"(?:\(\s*([A-Za-z])\s*\)|\[\s*([A-Za-z])\s*\]|([A-Za-z]))"
_LONE_LETTER = re.compile(rf"{_ONE}\s*[.:)]?")
_LETTER_AND_TEXT = re.compile(r"(?:\(([A-Za-z])\)|([A-Z])\s*[.:)\-]|([A-Z])(?=\s+[^a-z]))\s*(.+)")
_BETWEEN = re.compile(r"\s*(?:,|;|&|/|\band\b|\s)\s*")
_LONGEST = 2000


def choice_reward(problem: Problem, completion: Completion, thinking: ThinkingConfig) -> Verdict:
    r"""1 when the answer names exactly the gold's option or options.

    Letters count in the forms that models write ("(B)", "B.", "B: text", "\text{B}", "option B"),
    and so does an option's own text. `problem.fields["options"]` holds the options, as a list (A,
    B, ...) or as a mapping of letters to texts; without it, letters alone are read. Without a box
    or an answer line, an answer of one line after the thoughts is read whole. Never raises.
    """
    options = _options(problem)
    if options is None:
        return bad_gold(problem, f"options {problem.fields['options']!r} are no list or mapping")
    known = [gold for form in problem.gold if (gold := _named(form, options)) is not None]
    if not known or len(known) < len(problem.gold):
        return bad_gold(problem, f"gold {problem.gold!r} names none of options {sorted(options)}")
    said = final_answer(completion.text, thinking) or _only_line(completion.text, thinking)
    if not said:
        return Verdict(0.0, "no_answer", "no box, no answer line, and not one line")
    letters = _named(said[:_LONGEST], options)
    if letters is None:
        return Verdict(0.0, "unparsable", f"{said[:200]!r} names no option")
    if letters in known:
        return Verdict(1.0, "correct", "".join(sorted(letters)))
    right = " or ".join("".join(sorted(gold)) for gold in known)
    return Verdict(0.0, "wrong", f"{''.join(sorted(letters))} is not {right}")


def _options(problem: Problem) -> dict[str, str] | None:
    """Option texts by capital letter; empty where the row has none."""
    given = problem.fields.get("options")
    if given is None:
        return {}
    if isinstance(given, Mapping):
        pairs = cast("Mapping[object, object]", given).items()
        texts = {str(letter).strip("(). ").upper(): str(text) for letter, text in pairs}
        return texts if all(re.fullmatch("[A-Z]", letter) for letter in texts) else None
    if isinstance(given, Sequence) and not isinstance(given, str | bytes) and len(given) <= 26:
        texts = cast("Sequence[object]", given)
        return {letter: str(text) for letter, text in zip(ascii_uppercase, texts, strict=False)}
    return None


def _only_line(text: str, thinking: ThinkingConfig) -> str | None:
    tail = (split_thinking(text, thinking).final or "").strip()
    return None if "\n" in tail else tail


def _named(said: str, options: Mapping[str, str]) -> frozenset[str] | None:
    """Letters of the options that a short text names; None when it clearly names none."""
    text = _WRAPPER.sub(r"\1", said)
    text = _NOISE.sub(" ", text)
    text = _SAID_FIRST.sub("", " ".join(text.split())).strip().rstrip(".").strip()
    by_text = _by_text(said, options)
    lone = _LONE_LETTER.fullmatch(text)
    if lone and (letter := _letter(lone, options)):
        return frozenset(letter)
    if len(by_text) == 1:
        return frozenset(by_text)
    several = [_LONE_LETTER.fullmatch(part) for part in _BETWEEN.split(text)]
    if len(several) > 1 and all(several):
        letters = [_letter(part, options) for part in several if part]
        return frozenset(filter(None, letters)) if all(letters) else None
    led = _LETTER_AND_TEXT.fullmatch(text)
    if led and (letter := _letter(led, options)):
        other = _by_text(led[4], options)
        return None if other and letter not in other else frozenset(letter)
    if re.fullmatch("[A-Z]{2,}", text) and (not options or set(text) <= set(options)):
        return frozenset(text)
    return None


def _by_text(said: str, options: Mapping[str, str]) -> list[str]:
    """Letters of the options with this text, or else of those with the same normal form."""
    normal = normalise(said)
    return [letter for letter, option in options.items() if same_text(said, option)] or [
        letter for letter, option in options.items() if same_text(normal, normalise(option))
    ]


def _letter(match: re.Match[str], options: Mapping[str, str]) -> str | None:
    letter = next(group for group in match.groups() if group).upper()
    return letter if not options or letter in options else None
