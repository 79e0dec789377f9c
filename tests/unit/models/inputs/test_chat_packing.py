"""Chats packed behind one another teach what each teaches alone."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from configs.schema.data import PromptConfig
from configs.schema.policy import PolicyConfig
from models.inputs.encoder import InputEncoder
from models.inputs.packing import pack_chats
from models.policy import attention
from models.policy.loading import load_model
from models.policy.policy import Policy
from models.tiny.model import build_tiny_text, build_tiny_vlm
from rl.data.records import Chat, TokenisedChat, Turn
from tests.unit.step_samples import png
from tests.vision_families import build_llava, build_qwen2_5_vl

FIRST = TokenisedChat((5, 6, 7, 8), (False, False, True, True))
SECOND = TokenisedChat((9, 4, 3), (False, True, False))


def test_chats_of_a_row_start_anew_and_see_themselves_only() -> None:
    batch = pack_chats([[FIRST, SECOND]], pad_id=0)
    assert batch.input_ids.tolist() == [[5, 6, 7, 8, 9, 4, 3]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 0, 1, 2]]
    assert batch.attention_mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0],
        [0, 0, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 1, 1, 1],
    ]
    # Each trained token is predicted by the one before it.
    assert batch.sources.tolist() == [1, 2, 4]
    assert batch.targets.tolist() == [7, 8, 4]
    assert batch.answers.tolist() == [0, 0, 1]
    assert batch.weights.tolist() == [1, 1, 1]
    assert batch.sampler_logprobs is None and batch.reference_logprobs is None


def test_a_shorter_row_ends_in_padding_that_sees_itself_only() -> None:
    batch = pack_chats([[FIRST, SECOND], [SECOND]], pad_id=17)
    assert batch.input_ids.tolist() == [[5, 6, 7, 8, 9, 4, 3], [9, 4, 3, 17, 17, 17, 17]]
    assert batch.segments.tolist() == [[1, 1, 1, 1, 2, 2, 2], [3, 3, 3, -1, -1, -1, -1]]
    assert batch.position_ids[1].tolist() == [0, 1, 2, 0, 0, 0, 0]
    assert batch.in_prompt[1].tolist() == [True] * 3 + [False] * 4
    assert batch.attention_mask[1, 0].int().tolist()[2:5] == [
        [1, 1, 1, 0, 0, 0, 0],
        [0, 0, 0, 1, 0, 0, 0],
        [0, 0, 0, 0, 1, 0, 0],
    ]
    assert batch.sources.tolist() == [1, 2, 4, 7]
    assert batch.targets.tolist() == [7, 8, 4, 4]
    assert batch.answers.tolist() == [0, 0, 1, 2]


def test_filler_is_one_token_that_counts_for_nothing() -> None:
    batch = pack_chats([], pad_id=17)
    assert batch.input_ids.tolist() == [[17]]
    assert batch.attention_mask.tolist() == [[[[True]]]]
    assert (batch.sources.tolist(), batch.weights.tolist()) == ([0], [0.0])


def test_a_first_token_that_is_to_be_trained_is_refused() -> None:
    with pytest.raises(ValueError, match="first token"):
        pack_chats([[SECOND], [TokenisedChat((1, 2), (True, True))]], pad_id=0)


def chat(name: str, images: Sequence[bytes], *texts: str) -> Chat:
    turns = [Turn("assistant" if i % 2 else "user", text) for i, text in enumerate(texts)]
    return Chat(name, tuple(turns), tuple(images))


BLUE, GREEN, RED = png(56, 56), png(90, 40, (1, 200, 90)), png(40, 99, (200, 0, 5))
CHATS = (
    chat("two", [BLUE, GREEN], "Is <image> more than <image>?", "no", "Sure?", "3+5=8"),
    chat("none", [], "What is the sum of 3, 5?", "<think>3+5=8</think>8"),
    chat("later", [RED], "Hello.", "5", "And <image>?", "\\boxed{12}"),
    chat("first", [GREEN], "<image>Add up the digits.", "7"),
)
BUILDERS: dict[str, Callable[[Path], None]] = {
    "internvl": lambda folder: build_tiny_vlm(folder, seed=3),
    "qwen2.5-vl": build_qwen2_5_vl,
    "llava": build_llava,
    "text": lambda folder: build_tiny_text(folder, seed=3),
}
Loaded = tuple[Policy, InputEncoder, tuple[Chat, ...]]


@pytest.fixture(scope="module", params=BUILDERS)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    folder = tmp_path_factory.mktemp(request.param)
    BUILDERS[request.param](folder)
    encoder = InputEncoder(folder, PromptConfig(), trust_remote_code=False)
    config = PolicyConfig(path=str(folder), dtype="float32")
    policy = Policy(load_model(config, folder), encoder, chunk=4)
    return policy, encoder, CHATS if encoder.has_vision else (CHATS[1],) * 3


@pytest.fixture(autouse=True, params=["dense", "by spans"])
def attended(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows this short would all be dense."""
    monkeypatch.setattr(attention, "_CALL", 10**9 if request.param == "dense" else -(10**9))


def logprobs(loaded: Loaded, chats: Sequence[Chat], rows: int = 1) -> Tensor:
    """Of the chats in so many rows, the first ones longer."""
    policy, encoder, _ = loaded
    each = -(-len(chats) // rows)
    encoded = [encoder.encode_chat(chat) for chat in chats]
    laid = [encoded[start : start + each] for start in range(0, len(chats), each)]
    return policy(pack_chats(laid, encoder.pad_id, encoder.pixels(chats)))[0]


def plain_logprobs(loaded: Loaded, chat: Chat) -> Tensor:
    """A chat alone, through transformers' own forward with its own positions and mask."""
    policy, encoder, _ = loaded
    encoded = encoder.encode_chat(chat)
    ids = torch.tensor([encoded.ids])
    pixels = encoder.pixels([chat]) if chat.images else {}
    if "image_grid_thw" in pixels:
        pixels["mm_token_type_ids"] = (ids == policy.model.config.image_token_id).int()
    logits = policy.model(input_ids=ids, **pixels).logits[0].float()
    logits[:, list(encoder.image_token_ids)] = -torch.inf
    steps = logits[:-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
    return steps[torch.tensor(encoded.loss_mask)[1:]]


def gradient(policy: Policy, loss: Tensor) -> dict[str, Tensor]:
    policy.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in policy.named_parameters() if p.grad is not None}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    scale = max(value.abs().max() for value in expected.values())
    assert scale > 1e-3
    for name, value in expected.items():
        assert (found[name] - value).abs().max() < 1e-6 * scale, name


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_a_pack_has_the_loss_and_gradient_of_its_chats_alone(loaded: Loaded, rows: int) -> None:
    policy, _, chats = loaded
    packed = logprobs(loaded, chats, rows)
    alone = torch.cat([logprobs(loaded, [chat]) for chat in chats])
    plain = torch.cat([plain_logprobs(loaded, chat) for chat in chats])
    torch.testing.assert_close(packed, plain, atol=1e-5, rtol=0)
    assert abs(packed.mean() - alone.mean()) < 1e-6
    assert abs(packed.mean() - plain.mean()) < 1e-6
    expected = gradient(policy, -plain.mean())
    found = gradient(policy, -packed.mean())
    # A chat without images alone leaves the tower's gradient out, a pack has it at 0.
    assert_same(found, expected)
    assert_same(gradient(policy, -alone.mean()), expected)


def test_neither_order_nor_company_changes_what_a_chat_says(loaded: Loaded) -> None:
    _, encoder, chats = loaded
    with torch.no_grad():
        forwards, backwards = logprobs(loaded, chats), logprobs(loaded, chats[::-1])
    counts = [sum(encoder.encode_chat(chat).loss_mask) for chat in chats]
    turned = backwards.split(counts[::-1])[::-1]
    torch.testing.assert_close(forwards, torch.cat(list(turned)), atol=1e-5, rtol=0)


def test_filler_runs_every_module_and_changes_nothing(loaded: Loaded) -> None:
    policy, encoder, chats = loaded
    batch = pack_chats([], encoder.pad_id)
    found, *_ = policy(batch)
    assert found.isfinite().all()
    empty = gradient(policy, (found * batch.weights).sum())
    assert empty.keys() == gradient(policy, logprobs(loaded, chats).sum()).keys()
    assert all((value == 0).all() for value in empty.values())
