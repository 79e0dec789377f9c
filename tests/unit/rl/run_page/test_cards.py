"""Each kind of line that a run writes has its columns and its card."""

from typing import Any

import pytest

from rl.data.records import Chat, Pair, Turn
from rl.run_log.samples import Logged, LoggedChat, LoggedPair
from rl.run_page.cards import kind_of


def shown(logged: Logged) -> tuple[dict[str, Any], dict[str, Any]]:
    """Values by their columns, and the card."""
    (line,) = logged.lines(lambda images: [])
    kind = kind_of(line)
    assert kind is not None
    row = kind.row({"step": 7, **line}, "")
    return dict(zip([column.key for column in kind.columns], row, strict=True)), kind.card(line, {})


QUESTION = Turn("user", "1+1?")


def test_a_chat_is_found_by_its_loss_and_shows_its_least_likely_tokens() -> None:
    chat = Chat("c", (Turn("system", "be brief"), QUESTION, Turn("assistant", "2")))
    row, card = shown(LoggedChat(chat, 9, 3, 0.5, (("2", 0.25),)))
    assert row == {"step": 7, "name": "c", "loss": 0.5, "tokens": 9, "trained_tokens": 3}
    assert [turn["text"] for turn in card["asked"]] == ["be brief", "1+1?"]
    assert card["said"] == [{"title": "learned", "text": "2"}]
    assert card["unlikely"] == [{"token": "2", "probability": 0.25}]


@pytest.mark.parametrize(("rejected", "margin"), [(-0.5, 0.75), (float("nan"), None)])
def test_a_pair_is_found_by_the_margin_of_its_rewards(
    rejected: float, margin: float | None
) -> None:
    answers = (Chat("p", (QUESTION, Turn("assistant", text))) for text in ("2", "3"))
    row, card = shown(LoggedPair(Pair(*answers), 0.25, rejected))
    assert (row["name"], row["chosen_reward"], row["margin"]) == ("p", 0.25, margin)
    assert [(said["title"], said["text"]) for said in card["said"]] == [
        ("chosen", "2"),
        ("rejected", "3"),
    ]


def test_what_is_no_sample_has_no_kind() -> None:
    assert kind_of({"step": 1, "reward": 0.5}) is None
