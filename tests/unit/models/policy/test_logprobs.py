"""Logprobs of tokens, by hand, whatever the chunk."""

import math
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from configs.schema.rollout import WHOLE, DistributionConfig
from models.policy.logprobs import OutputLayer

NONE = torch.tensor([], dtype=torch.int64)


def logits_as_they_are(logits: list[list[float]]) -> tuple[nn.Module, Tensor]:
    return nn.Identity(), torch.tensor(logits, requires_grad=True)


def test_probabilities_of_one_two_and_four_in_seven() -> None:
    head, hidden = logits_as_they_are([[0.0, math.log(2), math.log(4)]] * 3)
    logprobs, entropy, _ = OutputLayer(head, NONE, WHOLE, 8).logprobs(
        hidden, torch.tensor([0, 1, 2])
    )
    assert logprobs.exp().tolist() == pytest.approx([1 / 7, 2 / 7, 4 / 7])
    by_hand = math.log(7) - (2 * math.log(2) + 4 * math.log(4)) / 7
    assert entropy.tolist() == pytest.approx([by_hand] * 3)
    assert not entropy.requires_grad


def test_temperature_divides_the_logits_and_so_the_gradient() -> None:
    head, hidden = logits_as_they_are([[0.0, math.log(2), math.log(4)]])
    logprobs, _, _ = OutputLayer(head, NONE, DistributionConfig(temperature=0.5), 8).logprobs(
        hidden, torch.tensor([2])
    )
    logprobs.sum().backward()
    assert logprobs.exp().item() == pytest.approx(16 / 21)
    # d log p_i / d logit_j = (1[i = j] - p_j) / temperature.
    assert hidden.grad[0].tolist() == pytest.approx([-2 / 21, -8 / 21, 10 / 21])


def test_banned_tokens_have_no_probability_and_get_no_gradient() -> None:
    head, hidden = logits_as_they_are([[0.0, math.log(2), 50.0]] * 2)
    logprobs, entropy, _ = OutputLayer(head, torch.tensor([2]), WHOLE, 8).logprobs(
        hidden, torch.tensor([0, 2])
    )
    assert logprobs.exp().tolist() == pytest.approx([1 / 3, 0])
    assert entropy.tolist() == pytest.approx([math.log(3) - 2 / 3 * math.log(2)] * 2)
    logprobs[0].backward()
    assert hidden.grad[0].tolist() == pytest.approx([2 / 3, -2 / 3, 0])
    assert hidden.grad.isfinite().all()


@pytest.mark.parametrize("chunk", [1, 3, 10, 1000])
def test_the_chunk_changes_neither_values_nor_gradients(chunk: int) -> None:
    torch.manual_seed(0)
    head = nn.Linear(6, 11, bias=False)
    hidden = torch.randn(10, 6, requires_grad=True)
    targets = torch.randint(11, (10,))
    weights = torch.randn(10)

    def run(size: int) -> list[Tensor]:
        head.zero_grad()
        hidden.grad = None
        values, entropy, _ = OutputLayer(
            head, torch.tensor([4]), DistributionConfig(temperature=0.7), size
        ).logprobs(hidden, targets)
        targeted = targets != 4
        (values[targeted] * weights[targeted]).sum().backward()
        return [values.detach(), entropy, hidden.grad.clone(), head.weight.grad.clone()]

    with torch.no_grad():
        logits = (head(hidden) / 0.7).index_fill(1, torch.tensor([4]), -math.inf)
        plain = logits.log_softmax(-1)[torch.arange(10), targets]
    found = run(chunk)
    torch.testing.assert_close(found[0], plain)
    for part, whole in zip(found, run(10**6), strict=True):
        torch.testing.assert_close(part, whole)


def test_without_gradients_the_values_are_the_same() -> None:
    torch.manual_seed(0)
    head, hidden, targets = nn.Linear(4, 5), torch.randn(7, 4), torch.randint(5, (7,))
    kept, _, _ = OutputLayer(head, NONE, WHOLE, 3).logprobs(hidden, targets)
    with torch.no_grad():
        free, _, _ = OutputLayer(head, NONE, WHOLE, 3).logprobs(hidden, targets)
    assert kept.requires_grad and not free.requires_grad
    assert torch.equal(kept.detach(), free)


def test_half_precision_heads_are_read_in_full_precision() -> None:
    head, hidden = nn.Linear(8, 9).bfloat16(), torch.randn(2, 8).bfloat16()
    values, entropy, _ = OutputLayer(head, NONE, WHOLE, 2).logprobs(hidden, torch.tensor([1, 2]))
    assert (values.dtype, entropy.dtype) == (torch.float32, torch.float32)


@pytest.mark.parametrize("others", [0, 2])
def test_the_backward_pass_keeps_nothing_of_the_chunks_behind_it(others: int) -> None:
    # Also where a loss leaves some outputs alone, which are held until it ends.
    head = torch.nn.Linear(4, 50, bias=False)
    hidden_NH = torch.randn(12, 4, requires_grad=True)
    others_NK = torch.zeros(12, others, dtype=torch.int64)
    peaks: list[int] = []
    for positions in (3, 12):  # one chunk, and four
        layer = OutputLayer(head, NONE, DistributionConfig(), chunk=3)
        part = slice(positions)
        held = layer.logprobs(
            hidden_NH[part], torch.ones(positions, dtype=torch.int64), others_NK[part]
        )
        with _Live() as live:
            held[0].sum().backward()
        peaks.append(live.most)
    assert 0 < peaks[0] == peaks[1]


class _Live(TorchDispatchMode):
    """The most tensors of [chunk, vocabulary] that there are at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0
        self._there: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in (made,) if isinstance(made, Tensor) else ():
            if tensor.numel() == 3 * 50:
                storage = tensor.untyped_storage()
                self._note(storage._cdata, storage)
        self.most = max(self.most, len(self._there))
        return made

    def _note(self, key: int, storage: Any) -> None:
        self._there.setdefault(key, weakref.ref(storage, lambda _: self._there.pop(key)))
