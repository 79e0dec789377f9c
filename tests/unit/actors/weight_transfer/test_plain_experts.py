"""Experts as plain products: numbers worked by hand, and under a compiler."""

import math

import torch

from actors.weight_transfer.plain_experts import plain_experts


def silu(x: float) -> float:
    return x / (1 + math.exp(-x))


# Two experts of one inner width, on states of width 2: G x, then U x, then W2.
W13 = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 2.0], [1.0, 1.0]]])
W2 = torch.tensor([[[1.0], [2.0]], [[-1.0], [0.5]]])
STATES = torch.tensor([[1.0, 3.0], [2.0, -1.0], [0.5, 0.5]])


def test_each_token_gets_the_weighted_sum_of_its_experts() -> None:
    experts = torch.tensor([[0, 1], [1, 0], [0, 0]], dtype=torch.int32)
    weights = torch.tensor([[0.75, 0.25], [1.0, 0.0], [0.5, 0.0]])
    out = torch.empty(3, 2)
    plain_experts(out, STATES, W13, W2, weights, experts)
    first, second = silu(1.0) * 3, silu(6.0) * 4
    of_the_second_token = silu(-2.0) * 1
    of_the_third = 0.5 * silu(0.5) * 0.5
    expected = [
        [0.75 * first - 0.25 * second, 0.75 * 2 * first + 0.25 * 0.5 * second],
        [-of_the_second_token, 0.5 * of_the_second_token],
        [of_the_third, 2 * of_the_third],
    ]
    torch.testing.assert_close(out, torch.tensor(expected))


def test_a_compiler_takes_them_whole() -> None:
    experts = torch.tensor([[0, 1], [1, 0], [0, 1]], dtype=torch.int32)
    weights = torch.full((3, 2), 0.5)

    def doubled(states: torch.Tensor) -> torch.Tensor:
        out = torch.empty_like(states)
        plain_experts(out, states, W13, W2, weights, experts)
        return 2 * out

    compiled = torch.compile(doubled, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(STATES), doubled(STATES))
