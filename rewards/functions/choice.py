"""The `choice` reward: the answer names the right option, by its letter or by its text."""

import re
from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import cast

from configs.schema.reward import ThinkingConfig
from rewards.agreement.answers import Reading, agree
from rewards.completion import Completion, bad_gold
from rewards.text.answer import final_answer
from rewards.text.normalise import normalise, same_text
from rewards.text.unicode import fold
from rl.data.records import Problem, Verdict
from rl.data.thinking import split_thinking

_WRAPPER = re.compile(
    r"\\(?:text(?:bf|it|rm)?|math(?:rm|bf|it|sf|bb)|mbox|boldsymbol|operatorname)\s*\{([^{}]*)\}"
)
_NOISE = re.compile(r"[*_$`\\{}~]+")
_SAID_FIRST = re.compile(
    r"^(?:the )?(?:correct |right |final )?(?:answers?|options?|choices?)(?: is| are)?[ :]*",
    re.IGNORECASE,
)
_LABEL = r"([A-Za-z]|[ivx]{2,4}|[IVX]{2,4})"
_ONE = rf"(?:\(\s*{_LABEL}\s*\)|\[\s*{_LABEL}\s*\]|{_LABEL})"
_LONE_LETTER = re.compile(rf"{_ONE}\s*[.:)]?")
_LETTER_AND_TEXT = re.compile(r"(?:\(([A-Za-z])\)|([A-Z])\s*[.:)\-]|([A-Z])(?=\s+[^a-z]))\s*(.+)")
_BETWEEN = re.compile(r"\s*(?:,|;|&|/|\band\b|\s)\s*")
_EITHER = re.compile(r"\b(?:or|either|not)\b", re.IGNORECASE)
_ROMAN = re.compile(r"[IVX]{2,4}")
_CLAUSES = re.compile(
    r",\s*(?!(?:and |or )?\(?[A-Z]\)?(?:\W|$))|[;\u3002]\s*|(?<=[\w)])\.\s+(?=[A-Z\u4e00-\u9fff])"
    r"|\b(?:because|since|but|while|whereas|as)\b|\s[\u2014-]\s",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"\b(?:not|cannot|neither|nor|wrong|incorrect|false|rather than|instead of|except|unlike)\b"
    r"|n't\b|\beliminat|\brul(?:e|ed|ing) out|\u4e0d\u662f|\u5e76\u975e|\u9519",
    re.IGNORECASE,
)
_MENTIONED = re.compile(
    r"\(([A-Za-z])\)|\b(?:options?|choices?|answers?)(?: is)?:? ([A-Z])\b|"
    r"(?<![\w'])([A-HJ-Z])(?![\w'])(?=[.:),]|\s*$|\s+(?:is|was|here|seems|looks|or|and)\b)|"
    r"(?<![\w'])([B-HJ-Z])(?![\w'])"  # a lone A is an article, a lone I a pronoun
)
_DECIMALS, _DIGITS = 6, 400
"""Bounds of comparing an option's value with an answer's."""
_LONGEST = 2000
_LONGEST_VALUE = 300


def choice_reward(problem: Problem, completion: Completion, thinking: ThinkingConfig) -> Verdict:
    r"""1 when the answer names exactly the gold's option or options.

    Letters count in the forms that models write ("(B)", "B.", "B: text", "\text{B}", "option B"),
    and so does an option's own text. `problem.fields["options"]` holds the options, as a list (A,
    B, ...) or as a mapping of letters to texts; without it, letters alone are read. Without a box
    or an answer line, an answer of one line after the thoughts is read whole. Never raises.
    """
    options = options_of(problem)
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


def named_options(problem: Problem, text: str, thinking: ThinkingConfig) -> str | None:
    """Letters of the options that `text` names, in order; None where it names none.

    Never raises; options that are no list or mapping count as none.
    """
    said = final_answer(text, thinking) or _only_line(text, thinking)
    letters = _named(said[:_LONGEST], options_of(problem) or {}) if said else None
    return "".join(sorted(letters)) if letters else None


def options_of(problem: Problem) -> dict[str, str] | None:
    """Option texts by capital letter, empty where the row has none; None: they are no options."""
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
    """Labels of the options that a short text names; None when it clearly names none."""
    text = " ".join(_NOISE.sub(" ", _WRAPPER.sub(r"\1", fold(said))).split())
    text = _SAID_FIRST.sub("", text).strip().rstrip(".").strip()
    lone = _LONE_LETTER.fullmatch(text)
    if lone and (letter := _letter(lone, options)):
        return frozenset((letter,))
    by_text = _by_text(said, options)
    if len(by_text) == 1:
        return frozenset(by_text)
    several = [_LONE_LETTER.fullmatch(part) for part in _BETWEEN.split(text)]
    if len(several) > 1 and all(several) and not _EITHER.search(text):
        letters = [_letter(part, options) for part in several if part]
        return frozenset(filter(None, letters)) if all(letters) else None
    led = _LETTER_AND_TEXT.fullmatch(text)
    if led and (letter := _letter(led, options)):
        other = _by_text(led[4], options)
        if not _EITHER.match(led[4]):
            return None if other and letter not in other else frozenset((letter,))
    if re.fullmatch("[A-Z]{2,}", text) and (not options or set(text) <= set(options)):
        return frozenset((text,) if _ROMAN.fullmatch(text) and not options else text)
    return _in_prose(text, options)


def _in_prose(text: str, options: Mapping[str, str]) -> frozenset[str] | None:
    """The one option that a sentence settles on: its first clause with an option not denied."""
    for clause in _CLAUSES.split(text):
        if _DENIED.search(clause):
            continue
        found = {
            letter
            for mention in _MENTIONED.finditer(clause)
            if (letter := _letter(mention, options)) is not None
        }
        if found:
            return frozenset(found) if len(found) == 1 else None
    return None


def _by_text(said: str, options: Mapping[str, str]) -> list[str]:
    """Letters of the options with this text, or else of those that say the same."""
    if not options:
        return []
    exact = [letter for letter, option in options.items() if same_text(said, option)]
    if exact or len(said) > _LONGEST_VALUE:
        return exact
    normal = normalise(said)
    return [
        letter
        for letter, option in options.items()
        if agree(normalise(option), normal, _DECIMALS, _DIGITS) is Reading.SAME
    ]


def _letter(match: re.Match[str], options: Mapping[str, str]) -> str | None:
    letter = next(group for group in match.groups() if group).upper()
    return letter if not options or letter in options else None
