"""Where moves of reasoning begin."""

import torch

from rl.algorithms.critical_tokens import critical_tokens, phrases_of


def test_a_word_is_looked_for_in_either_case_and_behind_a_space() -> None:
    asked: list[str] = []

    def tokenise(text: str) -> list[int]:
        asked.append(text)
        return [len(text)]

    assert phrases_of(["Wait"], tokenise) == ((4,), (5,))
    assert sorted(asked) == [" Wait", " wait", "Wait", "wait"]


def test_a_phrase_counts_at_its_first_token_and_within_one_answer_only() -> None:
    targets = torch.tensor([5, 1, 2, 5, 1, 2, 1, 9])
    answers = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1])
    found = critical_tokens(targets, answers, ((5,), (1, 2)))
    # At 4 the phrase would run from one answer into the next.
    assert found.nonzero()[:, 0].tolist() == [0, 1, 3]


def test_a_phrase_longer_than_all_there_is_is_nowhere() -> None:
    assert not critical_tokens(torch.tensor([1]), torch.tensor([0]), ((1, 2), ())).any()
