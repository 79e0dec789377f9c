"""Attention of packed rows: every span among what it may see, and nothing else.

Under a dense mask each token pays for the length of its row, and [T, T] numbers exist. By spans it
pays for its own chat, or for its prompt and its own answer, and causal kernels can be used: on GPUs
one call of FlashAttention for all spans, elsewhere a call of SDPA for each.

Axes: B rows, T tokens of the longest row, N of all rows, D of a head; L tokens of a span, S tokens
that it sees.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from models.sequence_parallel.group import SequenceGroup
from models.sequence_parallel.split import GROUP

PACKED = "packed"
"""What models know `attend_packed` by."""

_HAND_DOWN = (
    "glm4v_text",
    "llama",
    "mistral",
    "qwen2",
    "qwen2_5_vl_text",
    "qwen3",
    "qwen3_moe",
    "qwen3_vl_moe_text",
    "qwen3_vl_text",
)
"""Language models, by their config's `model_type`, that hand `spans` down to their attention."""

_CALL = 128**2
"""Pairs of tokens whose attention takes a CPU about as long as calling a kernel does."""


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens behind one another in the flattened rows, each seeing those before it."""

    length: int
    prompt: int | None = None
    """Place of the span that they see besides, all of it."""
    padding: bool = False
    """Nobody reads what becomes of them."""


def spans_of(segments_BT: Tensor) -> tuple[Span, ...] | None:
    """The rows as spans; None where a dense mask is cheaper, as with many short ones.

    A dense mask looks at those pairs of tokens too that it hides. On a GPU all spans are one call,
    and it never is.
    """
    spans = all_spans(segments_BT)
    if segments_BT.is_cuda:
        return spans
    before = (0 if span.prompt is None else spans[span.prompt].length for span in spans)
    pairs = sum(
        span.length * (span.length + 1) // 2 + span.length * prompt + _CALL
        for span, prompt in zip(spans, before, strict=True)
        if not span.padding
    )
    rows, width = segments_BT.shape
    return spans if pairs < rows * width**2 else None


def all_spans(segments_BT: Tensor) -> tuple[Span, ...]:
    """The rows as spans, in order.

    Args:
        segments_BT: int64 [B, T]: 0 the row's prompt, k > 0 its k-th answer or chat, -1 padding.
    """
    spans: list[Span] = []
    for row_T in segments_BT.cpu():
        kinds, lengths = row_T.unique_consecutive(return_counts=True)
        prompt: int | None = None
        for kind, length in zip(kinds.tolist(), lengths.tolist(), strict=True):
            if kind == 0:
                prompt = len(spans)
            spans.append(Span(length, prompt if kind > 0 else None, padding=kind < 0))
    return tuple(spans)


def attend_by_spans(model: Any) -> bool:
    """Let the language part of a transformers model take `spans`; False where it could not."""
    if not by_spans(model.config):
        return False
    model.config.get_text_config()._attn_implementation = PACKED
    return True


def by_spans(config: Any) -> bool:
    """Whether the language part of a transformers model hands spans down to its attention."""
    return config.get_text_config().model_type in _HAND_DOWN


def empty_mask(device: torch.device) -> Tensor:
    """What stands in a mask's place beside spans: of four axes, so that transformers makes no
    mask of [T, T] itself, and empty, so that whoever reads it fails."""
    return torch.empty(1, 1, 0, 0, dtype=torch.bool, device=device)


def attend_packed(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **others: Any,
) -> tuple[Tensor, None]:
    """transformers' attention function: by `spans` where there are some, else by the dense mask.

    Args:
        query: [B, heads, T, D].
        key: [B, as many heads or fewer, T, D], and so `value`.
        others: `spans`, those of all rows, `scaling` of the products, and the ranks that share the
            rows, each of which gives and gets its own part of T; these need spans.

    Returns:
        [B, T, heads, D], zeros at padding; and no weights.
    """
    spans: Sequence[Span] | None = others.pop("spans", None)
    group: SequenceGroup | None = others.pop(GROUP, None)
    if spans is None:
        assert group is None, "ranks that share rows attend by spans"
        return sdpa_attention_forward(module, query, key, value, attention_mask, **others)
    scaling: float | None = others.get("scaling")
    if group is None:
        return _attended(spans, query, key, value, scaling), None
    whole = (group.all_tokens(states) for states in (query, key, value))
    return group.own_tokens(_attended(spans, *whole, scaling)), None


def _attended(
    spans: Sequence[Span], query: Tensor, key: Tensor, value: Tensor, scaling: float | None
) -> Tensor:
    """[B, T, heads, D]."""
    flat = [states.transpose(1, 2).flatten(0, 1) for states in (query, key, value)]
    by = attend_varlen if _has_varlen(query) else _attend_each
    made = by(*flat, spans=tuple(spans), scaling=scaling)
    return made.unflatten(0, (query.shape[0], query.shape[2]))


def _has_varlen(query: Tensor) -> bool:
    """Whether FlashAttention takes these: on GPUs, in half precision, heads of up to 256."""
    half = query.dtype in (torch.bfloat16, torch.float16)
    return query.is_cuda and half and query.shape[-1] % 8 == 0 and query.shape[-1] <= 256


def _attend_each(
    query: Tensor, key: Tensor, value: Tensor, *, spans: Sequence[Span], scaling: float | None
) -> Tensor:
    """[N, heads, D], span by span."""
    lengths = [span.length for span in spans]
    queries, keys, values = (states.split(lengths) for states in (query, key, value))
    made: list[Tensor] = []
    for place, span in enumerate(spans):
        if span.padding:
            made.append(torch.zeros_like(queries[place]))
            continue
        seen = [place] if span.prompt is None else [span.prompt, place]
        made.append(
            _attend(
                queries[place],
                _joined([keys[i] for i in seen]),
                _joined([values[i] for i in seen]),
                scaling,
            )
        )
    return torch.cat(made)


def attend_varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    spans: tuple[Span, ...],
    scaling: float | None,
    kernel: Callable[..., Tensor] = varlen_attn,
) -> Tensor:
    """The same in one call, each span a sequence whose keys are its prompt's and its own.

    Args:
        query: [N, heads, D].
        key: [N, as many heads or fewer, D], and so `value`.
        kernel: takes what torch's `varlen_attn` takes; under a causal window the last query of a
            sequence sees all of its keys.

    Returns:
        [N, heads, D], zeros at padding.
    """
    told = _varlen_of(spans, query.device)
    made = kernel(
        query[told.queries],
        key[told.keys],
        value[told.keys],
        told.query_starts,
        told.key_starts,
        told.longest_query,
        told.longest_key,
        scale=scaling,
        window_size=(-1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return torch.zeros_like(query).index_copy(0, told.queries, made)


@dataclass(frozen=True, slots=True)
class _Varlen:
    """Spans as FlashAttention's sequences: M queries, and as many keys as they see."""

    queries: Tensor
    """int64 [M]: places of the tokens that are no padding."""
    keys: Tensor
    """int64: places of what each span sees, one behind the other; prompts again for each answer."""
    query_starts: Tensor
    """int32 [sequences + 1], and so `key_starts`."""
    key_starts: Tensor
    longest_query: int
    longest_key: int


@lru_cache(maxsize=4)
def _varlen_of(spans: tuple[Span, ...], device: torch.device) -> _Varlen:
    """Made once a batch: every layer asks for the same."""
    starts = [0, *accumulate(span.length for span in spans)]
    own = [range(a, a + span.length) for a, span in zip(starts, spans, strict=False)]
    asking = [place for place, span in enumerate(spans) if not span.padding]
    before = [() if (at := spans[place].prompt) is None else own[at] for place in asking]
    queries = [own[place] for place in asking]
    keys = [[*prompt, *answer] for prompt, answer in zip(before, queries, strict=True)]

    def places(of: Sequence[Sequence[int]]) -> Tensor:
        return torch.tensor([place for each in of for place in each], device=device)

    def edges(of: Sequence[Sequence[int]]) -> Tensor:
        lengths = [0, *accumulate(map(len, of))]
        return torch.tensor(lengths, dtype=torch.int32, device=device)

    return _Varlen(
        places(queries),
        places(keys),
        edges(queries),
        edges(keys),
        max(map(len, queries)),
        max(map(len, keys)),
    )


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _attend(query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
    """[L, heads, D]; the last query sees all [S, heads, D] keys, each before it one less."""
    whole = len(query) == len(key)
    attended = F.scaled_dot_product_attention(
        *(states.transpose(0, 1)[None] for states in (query, key, value)),
        attn_mask=None if whole else causal_lower_right(len(query), len(key)),
        is_causal=whole,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return attended[0].transpose(0, 1)


AttentionInterface.register(PACKED, attend_packed)
AttentionMaskInterface.register(PACKED, sdpa_mask)
