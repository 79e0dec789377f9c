"""Each kind of line that a run writes has its columns and its card."""

from dataclasses import replace
from typing import Any

import pytest

from rl.data.records import Answer, Chat, Pair, Turn
from rl.run_log.samples import Logged, LoggedChat, LoggedGroup, LoggedPair
from rl.run_page.cards import kind_of
from tests.unit.step_samples import scored


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


def test_an_answer_names_each_policy_that_wrote_it() -> None:
    answer = Answer((1,) * 4, (-1.0,) * 4, "2", "stop", 3, later=((4, 1), (6, 3)))
    group = scored([1.0], answers=[answer])
    row, card = shown(LoggedGroup(group, (0.5,), (None,), (None,)))
    assert row["staleness"] == 4
    assert card["facts"]["policy version"] == "3, 4 from token 2, 6 from token 4"
    alone = scored([1.0], answers=[replace(answer, later=())])
    _, card = shown(LoggedGroup(alone, (0.5,), (None,), (None,)))
    assert card["facts"]["policy version"] == 3


def test_what_is_no_sample_has_no_kind() -> None:
    assert kind_of({"step": 1, "reward": 0.5}) is None
