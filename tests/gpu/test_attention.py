"""FlashAttention over spans is the attention that a dense mask says, on a GPU in half precision.

`.venv/bin/python -m pytest -m gpu tests/gpu/test_attention.py`
"""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from models.policy.attention import attend_packed, spans_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]

SHARED = [[0] * 300 + [1] * 400 + [2] * 330, [0] * 1000 + [-1] * 30]
CHATS = [[1] * 30 + [2] * 970 + [-1] * 30, [3] * 1030]


@pytest.mark.parametrize("segments", [SHARED, CHATS])
@pytest.mark.parametrize("key_heads", [8, 2])
@pytest.mark.parametrize("size", [64, 128])
def test_outputs_and_gradients_are_those_of_the_dense_mask(
    segments: list[list[int]], key_heads: int, size: int
) -> None:
    segments_BT = torch.tensor(segments, device="cuda")
    kinds = segments_BT[:, None, :], segments_BT[:, :, None]
    seen = (kinds[0] == kinds[1]) | ((kinds[0] == 0) & (kinds[1] > 0))
    mask = (seen & torch.ones_like(seen).tril())[:, None] | torch.eye(
        segments_BT.shape[1], dtype=torch.bool, device="cuda"
    )
    torch.manual_seed(0)
    rows, width = segments_BT.shape
    states = [
        torch.randn(rows, heads, width, size, device="cuda", dtype=torch.bfloat16)
        for heads in (8, key_heads, key_heads)
    ]
    read_BT11 = (segments_BT >= 0)[:, :, None, None]
    weights = torch.randn(rows, width, 8, size, device="cuda") * read_BT11
    layer = SimpleNamespace(num_key_value_groups=8 // key_heads, training=True)

    def outcome(precision: torch.dtype, mask: Tensor | None, **by: object) -> list[Tensor]:
        own = [each.to(precision).requires_grad_() for each in states]
        made, _ = attend_packed(layer, *own, mask, **by)
        grads = torch.autograd.grad((made * weights).sum(), own)
        return [each.float() for each in (made * read_BT11, *grads)]

    dense = outcome(torch.float32, mask)
    by_spans = outcome(torch.bfloat16, None, spans=spans_of(segments_BT))
    for found, expected in zip(by_spans, dense, strict=True):
        torch.testing.assert_close(found, expected, atol=0.05, rtol=0.05)
