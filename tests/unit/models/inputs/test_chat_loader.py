"""Ranks that do not speak to one another share out a step's chats, each once."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from configs.schema.data import ChatDataConfig, PromptConfig
from models.inputs.chat_loader import PackedChatLoader, PackPlan, ReadyPack
from models.inputs.encoder import InputEncoder
from rl.data.chats import ChatSet
from rl.data.records import Chat
from tests.unit.step_samples import png

BUDGET = 96


@pytest.fixture(scope="module")
def encoder(vlm: Path) -> InputEncoder:
    return InputEncoder(vlm, PromptConfig(), trust_remote_code=False)


@pytest.fixture(scope="module")
def chats(encoder: InputEncoder, tmp_path_factory: pytest.TempPathFactory) -> ChatSet:
    folder = tmp_path_factory.mktemp("chats")
    (folder / "a.png").write_bytes(png(56, 56))
    with (folder / "rows.jsonl").open("w") as out:
        for i in range(11):
            asked = "<image>" * (i % 3) + "What is the sum of 3, 5" + ", 1" * i + "?"
            said = [{"role": "user", "content": asked}, {"role": "assistant", "content": "3+5=8"}]
            out.write(json.dumps({"messages": said, "images": ["a.png"] * (i % 3)}) + "\n")
    return ChatSet.open(
        ChatDataConfig(source=str(folder / "rows.jsonl")),
        measure=encoder.measure_chat,
        max_tokens=BUDGET,
        rejected=folder / "rejected.jsonl",
        seed=0,
    )


@contextmanager
def feed(
    chats: ChatSet, encoder: InputEncoder, rank: int, ranks: int, packing: bool = True
) -> Iterator[PackedChatLoader]:
    made = PackedChatLoader(chats, encoder, PackPlan(BUDGET, packing, rank, ranks))
    yield made
    made.close()


def packs_of(
    chats: ChatSet, encoder: InputEncoder, ranks: int, window: list[int]
) -> list[list[ReadyPack]]:
    found: list[list[ReadyPack]] = []
    for rank in range(ranks):
        with feed(chats, encoder, rank, ranks) as own:
            found.append(list(own.packs([(0, window)])))
    return found


@pytest.mark.parametrize("ranks", [1, 2, 3, 16])
def test_ranks_have_equally_many_packs_and_each_chat_once(
    chats: ChatSet, encoder: InputEncoder, ranks: int
) -> None:
    window = list(range(11))
    found = packs_of(chats, encoder, ranks, window)
    assert len({len(packs) for packs in found}) == 1
    positions = [p for packs in found for pack in packs for p in pack.positions]
    assert sorted(positions) == window
    for packs in found:
        for pack in packs:
            assert pack.packed.input_ids.numel() <= BUDGET
            assert bool(pack.packed.weights.any()) == bool(pack.positions)


def test_trained_tokens_of_all_ranks_are_those_of_the_chats(
    chats: ChatSet, encoder: InputEncoder
) -> None:
    window = list(range(11))
    whole = sum(sum(encoder.encode_chat(chat).loss_mask) for chat in chats.chats(window))
    for ranks in (1, 3):
        found = packs_of(chats, encoder, ranks, window)
        shares = [packs[0].share for packs in found]
        assert sum(share.trained for share in shares) == whole
        weights = torch.cat([pack.packed.weights for packs in found for pack in packs])
        assert weights.sum() == whole
        assert sum(share.tokens for share in shares) == int(chats.lengths.sum())


def test_a_chat_that_a_window_shows_twice_is_learned_from_twice(
    chats: ChatSet, encoder: InputEncoder
) -> None:
    window = [4, 7, 4]
    found = packs_of(chats, encoder, 2, window)
    positions = sorted(p for packs in found for pack in packs for p in pack.positions)
    assert positions == [0, 1, 2]
    shown = [pack.share.chats[p].id for packs in found for pack in packs for p in pack.positions]
    assert sorted(shown) == ["4", "4", "7"]


def test_steps_come_one_after_another_and_alone_each_chat_is_its_own_pack(
    chats: ChatSet, encoder: InputEncoder
) -> None:
    with feed(chats, encoder, 0, 1, packing=False) as own:
        packs = list(own.packs((step, [step, step + 1]) for step in range(3)))
        assert own.rows([3, 1]) == [3, 1]
    assert [pack.share.number for pack in packs] == [0, 0, 1, 1, 2, 2]
    assert all(len(pack.positions) == 1 for pack in packs)


def test_its_threads_leave_those_of_torch_to_the_model(
    chats: ChatSet, encoder: InputEncoder
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    met: list[int] = []

    def pixels(shown: Sequence[Chat]) -> dict[str, torch.Tensor]:
        met.append(torch.get_num_threads())
        return encoder.pixels(shown)

    try:
        made = PackedChatLoader(chats, encoder, PackPlan(BUDGET, True, 0, 1), pixels)
        assert list(made.packs([(0, range(11))]))
        made.close()
        assert set(met) == {1} and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
