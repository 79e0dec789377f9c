"""Attention by spans is the attention that a dense mask says, and is used where it is cheaper."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import StableLmConfig, StableLmForCausalLM

from models.inputs.packing import PackedBatch, pack
from models.policy import attention
from models.policy.attention import Span, attend_packed, attend_varlen, spans_of
from tests.unit.models.inputs.test_packing import FIRST, SECOND

CHATS = torch.tensor([[1] * 300 + [2] * 200, [3] * 480 + [-1] * 20])


def test_spans_are_prompts_answers_and_padding_in_their_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attention, "_CALL", 0)
    assert spans_of(pack((FIRST, SECOND), pad_id=0).segments) == (
        Span(2),
        Span(2, prompt=0),
        Span(1, prompt=0),
        Span(1),
        Span(1, prompt=3),
        Span(3, padding=True),
    )


def test_a_few_long_chats_are_spans_and_many_short_ones_are_not() -> None:
    assert spans_of(CHATS) == (Span(300), Span(200), Span(480), Span(20, padding=True))
    # Pairs that are seen: about 45,150 + 20,100 + 115,440, and three calls; dense: 2 x 500^2.
    short = torch.arange(1, 26).repeat_interleave(20)[None]  # 25 chats of 20 tokens
    assert spans_of(short) is None


def test_a_long_chat_alone_is_a_span_and_a_short_one_is_not() -> None:
    assert spans_of(torch.ones(1, 2000, dtype=torch.int64)) == (Span(2000),)
    assert spans_of(torch.ones(1, 100, dtype=torch.int64)) is None


def test_a_family_that_hands_no_spans_down_stays_with_the_dense_mask() -> None:
    config = StableLmConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    model = StableLmForCausalLM(config)
    assert not attention.attend_by_spans(model)
    ids = torch.arange(20)[None] % 32
    with pytest.raises((RuntimeError, ValueError)):  # it would be wrong in silence
        model(input_ids=ids, attention_mask=attention.empty_mask(ids.device), spans=(Span(20),))


def masked(segments_BT: Tensor) -> Tensor:
    """The mask of rows with these segments."""
    empty = torch.empty(0)
    fields = dict.fromkeys(PackedBatch.__slots__, empty) | {"segments": segments_BT}
    return PackedBatch(**fields).attention_mask


def attending(segments_BT: Tensor, key_heads: int) -> list[Tensor]:
    """Queries of four heads, keys and values, each [B, heads, T, 8], of rows of noise."""
    torch.manual_seed(0)
    rows, width = segments_BT.shape
    heads_of_each = (4, key_heads, key_heads)
    return [torch.randn(rows, heads, width, 8, requires_grad=True) for heads in heads_of_each]


@pytest.mark.parametrize("key_heads", [4, 2])
@pytest.mark.parametrize(
    "segments_BT", [CHATS, torch.tensor([[0] * 90 + [1] * 40 + [2] * 70, [0] * 200])]
)
def test_outputs_and_gradients_are_those_of_the_dense_mask(
    monkeypatch: pytest.MonkeyPatch, segments_BT: Tensor, key_heads: int
) -> None:
    monkeypatch.setattr(attention, "_CALL", 0)
    spans = spans_of(segments_BT)
    assert spans is not None
    query, key, value = states = attending(segments_BT, key_heads)
    layer = SimpleNamespace(num_key_value_groups=4 // key_heads, training=True)
    read_BT11 = (segments_BT >= 0)[:, :, None, None]
    weights = torch.randn(*segments_BT.shape, 4, 8) * read_BT11

    def outcome(mask: Tensor | None, **by: object) -> list[Tensor]:
        made, _ = attend_packed(layer, query, key, value, mask, scaling=0.3, **by)
        return [made * read_BT11, *torch.autograd.grad((made * weights).sum(), states)]

    dense, by_spans = outcome(masked(segments_BT)), outcome(None, spans=spans)
    for found, expected in zip(by_spans, dense, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def by_definition(*told: Any, scale: float | None, **others: Any) -> Tensor:
    """What FlashAttention says of sequences of different lengths, in plain sums."""
    query, key, value, query_starts, key_starts, *longest = told
    assert others.pop("window_size") == (-1, 0)
    assert longest == [int(query_starts.diff().max()), int(key_starts.diff().max())]
    groups = query.shape[1] // key.shape[1]
    assert others == {"enable_gqa": groups > 1}
    made: list[Tensor] = []
    for i in range(len(query_starts) - 1):
        q = query[query_starts[i] : query_starts[i + 1]]
        k, v = (
            states[key_starts[i] : key_starts[i + 1]].repeat_interleave(groups, 1)
            for states in (key, value)
        )
        hidden = torch.ones(len(q), len(k)).triu(len(k) - len(q) + 1).bool()
        products = torch.einsum("qhd,khd->hqk", q, k) * (scale or q.shape[-1] ** -0.5)
        shares = products.masked_fill(hidden, -torch.inf).softmax(-1)
        made.append(torch.einsum("hqk,khd->qhd", shares, v))
    return torch.cat(made)


@pytest.mark.parametrize("key_heads", [4, 2])
@pytest.mark.parametrize(
    "segments_BT", [CHATS, torch.tensor([[0] * 90 + [1] * 40 + [2] * 70, [0] * 150 + [-1] * 50])]
)
def test_one_call_for_all_spans_is_a_call_for_each(
    monkeypatch: pytest.MonkeyPatch, segments_BT: Tensor, key_heads: int
) -> None:
    monkeypatch.setattr(attention, "_CALL", 0)
    spans = spans_of(segments_BT)
    assert spans is not None
    states = attending(segments_BT, key_heads)
    weights = torch.randn(*segments_BT.shape, 4, 8)

    def outcome() -> list[Tensor]:
        made, _ = attend_packed(None, *states, None, scaling=0.3, spans=spans)
        return [made, *torch.autograd.grad((made * weights).sum(), states)]

    each = outcome()
    monkeypatch.setattr(attention, "_has_varlen", lambda _: True)
    monkeypatch.setattr(attention, "attend_varlen", partial(attend_varlen, kernel=by_definition))
    for found, expected in zip(outcome(), each, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
