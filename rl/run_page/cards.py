"""A line of samples.jsonl, or of an evaluation's answers, as the page shows and finds it."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Line = Mapping[str, Any]
Sources = Callable[[str], dict[str, str]]
"""From an image's name in a line to where the page finds it: {"src"}, or {"path"} if it may not."""


class Column(NamedTuple):
    """A value by which samples are filtered and sorted."""

    key: str
    label: str
    form: str
    """A format specification; empty for words."""


class Kind(NamedTuple):
    """One kind of samples."""

    title: str
    """What the page calls them."""
    columns: tuple[Column, ...]
    row: Callable[[Line, str], tuple[Any, ...]]
    """Line and the reward that is called accuracy to the values of `columns`."""
    card: Callable[[Line, Mapping[str, float]], dict[str, Any]]
    """Line and the weights of rewards to what is shown of it, images left out."""


def kind_of(line: Line) -> Kind | None:
    """The kind of a line; None for one that is of no kind known here."""
    if "chat" in line:
        return CHAT
    if "pair" in line:
        return PAIR
    if "verdicts" in line:
        return ROLLOUT
    return ANSWER if "vote" in line else None


def _rollout_row(line: Line, accuracy: str) -> tuple[Any, ...]:
    verdicts = line["verdicts"]
    verdict = verdicts.get(accuracy) or next(iter(verdicts.values()), {})
    return (
        line["step"],
        line["problem"],
        line["reward"],
        verdict.get("cause"),
        line["tokens"],
        line["advantage"],
        line["step"] - line["version"],
        line["logprob_gap"],
        line["finish_reason"],
    )


def _rollout_card(line: Line, weights: Mapping[str, float]) -> dict[str, Any]:
    return {
        "asked": [{"role": "user", "text": line["question"]}],
        "gold": line["gold"],
        "said": [{"title": f"answer {line['sample'] + 1}", "text": line["answer"]}],
        "by_token": line.get("by_token"),
        "parts": [
            {"name": name, "weight": weights.get(name), **verdict}
            for name, verdict in line["verdicts"].items()
        ],
        "facts": {"policy version": _versions(line), "prompt tokens": line["prompt_tokens"]},
    }


def _versions(line: Line) -> int | str:
    """Who wrote the answer; logs of earlier releases name the first alone."""
    later = [
        f"{version} from token {start + 1}" for version, start in line.get("later_versions") or ()
    ]
    return ", ".join([str(line["version"]), *later]) if later else line["version"]


def _chat_row(line: Line, accuracy: str) -> tuple[Any, ...]:
    return line["step"], line["chat"], line["loss"], line["tokens"], line["trained_tokens"]


def _chat_card(line: Line, weights: Mapping[str, float]) -> dict[str, Any]:
    *asked, said = line["turns"]
    return {
        "asked": asked,
        "said": [{"title": "learned", "text": said["text"]}],
        "unlikely": line["least_likely"],
    }


def _pair_row(line: Line, accuracy: str) -> tuple[Any, ...]:
    chosen, rejected = line["chosen_reward"], line["rejected_reward"]
    margin = None if chosen is None or rejected is None else chosen - rejected
    return line["step"], line["pair"], margin, chosen, rejected


def _pair_card(line: Line, weights: Mapping[str, float]) -> dict[str, Any]:
    said = [{"title": title, "text": line[title]} for title in ("chosen", "rejected")]
    return {"asked": line["prompt"], "said": said}


def _answer_row(line: Line, accuracy: str) -> tuple[Any, ...]:
    values = (line[key] for key in ("benchmark", "problem", "score", "cause", "tokens"))
    return *values, line["sample"], line["finish_reason"]


def _answer_card(line: Line, weights: Mapping[str, float]) -> dict[str, Any]:
    verdict = {"name": "score", **{key: line[key] for key in ("score", "cause", "detail")}}
    return {
        "asked": [{"role": "user", "text": line["question"]}],
        "gold": line["gold"],
        "said": [{"title": f"answer {line['sample'] + 1}", "text": line["text"]}],
        "parts": [verdict],
        "facts": {"vote": line["vote"], "subjects": ", ".join(line["subjects"])},
    }


_STEP = Column("step", "step", ".0f")
_NAME = Column("name", "problem", "")
_VERDICT = Column("verdict", "verdict", "")
_TOKENS = Column("tokens", "length, tokens", ",.0f")
_FINISH = Column("finish", "ended by", "")

ROLLOUT = Kind(
    "rollouts",
    (
        _STEP,
        _NAME,
        Column("reward", "reward", ".3f"),
        _VERDICT,
        _TOKENS,
        Column("advantage", "advantage", "+.2f"),
        Column("staleness", "staleness, versions", ".0f"),
        Column("gap", "logprob gap, nats", ".3g"),
        _FINISH,
    ),
    _rollout_row,
    _rollout_card,
)
CHAT = Kind(
    "chats",
    (
        _STEP,
        Column("name", "chat", ""),
        Column("loss", "loss, nats a token", ".4f"),
        _TOKENS,
        Column("trained_tokens", "trained tokens", ",.0f"),
    ),
    _chat_row,
    _chat_card,
)
PAIR = Kind(
    "pairs",
    (
        _STEP,
        Column("name", "pair", ""),
        Column("margin", "margin of rewards", "+.3f"),
        Column("chosen_reward", "reward, chosen", "+.3f"),
        Column("rejected_reward", "reward, rejected", "+.3f"),
    ),
    _pair_row,
    _pair_card,
)
ANSWER = Kind(
    "answers",
    (
        Column("benchmark", "benchmark", ""),
        _NAME,
        Column("score", "score", ".3f"),
        _VERDICT,
        _TOKENS,
        Column("sample", "run of the benchmark", ".0f"),
        _FINISH,
    ),
    _answer_row,
    _answer_card,
)
