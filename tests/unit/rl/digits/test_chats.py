"""Built-in chats: about the same problems as the rewards' data, and read as a user's would be."""

from pathlib import Path

import pytest

from configs.schema.data import ChatDataConfig
from rl.data.chats import ChatSet
from rl.digits import chats as digit_chats
from rl.digits import problems as digits
from rl.digits.problems import Drawing, dataset_path
from rl.digits.wording import answer_text
from rl.tables.sources import open_source


@pytest.fixture(autouse=True)
def few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R1V_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(digits, "Drawing", lambda: Drawing(num_train=24, num_test=8))


def test_row_n_asks_about_the_n_th_problem_and_answers_by_turns() -> None:
    source = open_source("digits-styles", "train")
    problems = open_source("digits", "train").rows(0, 24)
    rows = source.rows(0, 24)
    assert len(source) == 24
    for number, (row, problem) in enumerate(zip(rows, problems, strict=True)):
        manner = "chain" if number % 2 else "plain"
        assert row["completion"] == answer_text(problem["digits"], manner)
        assert (row["prompt"], row["image"]) == (problem["question"], problem["image"])


def test_the_alignment_s_chats_ask_for_the_digits_and_for_plain_sums() -> None:
    first, second = open_source("digits-align", "train").rows(0, 2)
    assert first["prompt"] == "Which digits do you see?"
    assert first["completion"].replace(",", "").isdigit()
    assert second["completion"].startswith("<think></think>\\boxed{")


def test_each_fourth_chat_of_the_mixed_chains_has_no_picture() -> None:
    rows = open_source("digits-chains-text", "train").rows(0, 24)
    assert [row["image"] is None for row in rows] == [False, False, False, True] * 6
    assert all("<think>I see " in row["completion"] for row in rows)


@pytest.mark.parametrize("name", sorted(set(digit_chats.NAMES) - {digit_chats.PAIRS}))
def test_every_set_is_taken_for_chats_without_a_word_about_its_columns(
    name: str, tmp_path: Path
) -> None:
    chats = ChatSet.open(
        ChatDataConfig(source=name),
        measure=lambda chat: len(chat.turns),
        max_tokens=10,
        rejected=tmp_path / "rejected.jsonl",
        seed=0,
    )
    assert len(chats) == 24 and not chats.index.rejected
    assert chats.index.has_image.any() == (not name.startswith("digits-text"))


def test_pairs_prefer_the_right_digits_to_one_that_is_misread() -> None:
    first, second = open_source(digit_chats.PAIRS, "train").rows(0, 2)
    problems = open_source(str(dataset_path("digits", "train", None)), "train").rows(0, 2)
    for place, row, problem in ((0, first, problems[0]), (1, second, problems[1])):
        digits = problem["digits"]
        wrong = [(d + 1) % 10 if i == place else d for i, d in enumerate(digits)]
        assert row["chosen"].endswith(f"\\boxed{{{sum(digits)}}}")
        assert f"I see {','.join(map(str, wrong))}." in row["rejected"]
        assert row["rejected"].endswith(f"\\boxed{{{sum(wrong)}}}")


def test_a_second_call_writes_nothing_and_the_test_split_has_its_own_scans() -> None:
    path = digit_chats.chats_path("digits-chains", "train")
    written = path.stat().st_mtime_ns
    assert digit_chats.chats_path("digits-chains", "train") == path
    assert path.stat().st_mtime_ns == written
    assert (
        open_source("digits-chains", "test").rows(0, 1)[0]["image"]
        == (open_source(str(dataset_path("digits", "test", None)), "test").rows(0, 1)[0]["image"])
    )


def test_unknown_chats_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'digits-songs'.*digits-align"):
        digit_chats.chats_path("digits-songs", "train")
