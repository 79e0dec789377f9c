"""Weights sent and held are compared layer by layer."""

import math

import pytest
import torch

from models.policy.weight_sums import compare_sums, sum_and_squares, weight_group

SENT = {"model.layers.0": (12.0, 400.0), "model.norm.weight": (0.0, 0.0)}


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("model.layers.3.self_attn.q_proj.weight", "model.layers.3"),
        ("model.layers.31.mlp.experts.7.up_proj.weight", "model.layers.31"),
        ("visual.merger.up_proj.weight", "visual.merger.gate_up_proj.weight"),
        ("visual.merger.gate_up_proj.weight", "visual.merger.gate_up_proj.weight"),
        ("vision_tower.encoder.layers.0.attn.qkv.bias", "vision_tower.encoder.layers.0"),
        ("mlp1.0.weight", "mlp1.0"),
        ("model.embed_tokens.weight", "model.embed_tokens.weight"),
        ("multi_modal_projector.linear_1.weight", "multi_modal_projector.linear_1.weight"),
        ("blocks.12", "blocks.12"),
    ],
)
def test_weights_are_grouped_by_layer_and_stand_alone_outside(name: str, group: str) -> None:
    assert weight_group(name) == group


def test_what_engines_fuse_inside_a_layer_stays_in_its_group() -> None:
    layer = "language_model.model.layers.2.self_attn"
    groups = {weight_group(f"{layer}.{own}") for own in ("q_proj.weight", "qkv_proj.weight")}
    assert groups == {"language_model.model.layers.2"}


def test_equal_sums_have_no_faults() -> None:
    assert compare_sums(SENT, dict(SENT), 1e-10) == []


def test_gaps_are_measured_against_the_root_of_the_squares() -> None:
    # Tolerance 0.01: sums may be 0.01 * sqrt(400) = 0.2 apart, squares 0.01 * 400 = 4.
    for held, faults in (
        ((12.19, 400.0), 0),
        ((12.21, 400.0), 1),
        ((12.0, 403.9), 0),
        ((12.0, 395.9), 1),
    ):
        assert len(compare_sums(SENT, SENT | {"model.layers.0": held}, 0.01)) == faults


def test_a_fault_names_the_group_and_both_figures() -> None:
    (fault,) = compare_sums(SENT, SENT | {"model.layers.0": (13.5, 401.0)}, 1e-10)
    for part in ("model.layers.0", "sum 12,", "squares 400;", "sum 13.5,", "squares 401"):
        assert part in fault


def test_weights_that_the_engine_does_not_hold_are_named() -> None:
    (fault,) = compare_sums(SENT, {"model.layers.0": (12.0, 400.0)}, 1e-10)
    assert fault.startswith("model.norm.weight: sent, but the engine holds no such weights")


def test_weights_that_the_engine_holds_and_nobody_sent_are_named() -> None:
    (fault,) = compare_sums(SENT, SENT | {"lm_head.weight": (2.5, 9.0)}, 1e-10)
    assert fault == "lm_head.weight: the engine holds such weights (sum 2.5), but none were sent"


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_never_equal(broken: float) -> None:
    sums = {"lm_head.weight": (broken, broken)}
    assert len(compare_sums(sums, dict(sums), 1e-3)) == 1
    assert len(compare_sums({"lm_head.weight": (1.0, 1.0)}, sums, 1e-3)) == 1


def test_zero_weights_are_equal_to_zero_weights_only() -> None:
    zero = {"bias": (0.0, 0.0)}
    assert compare_sums(zero, zero, 1e-10) == []
    assert len(compare_sums(zero, {"bias": (1e-9, 1e-18)}, 1e-10)) == 1


DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_are_those_of_the_numbers_whatever_their_kind_and_layout(dtype: torch.dtype) -> None:
    # 1 - 2 + 0.5 - 0.25 = -0.75; 1 + 4 + 0.25 + 0.0625 = 5.3125: exact in each kind.
    numbers = torch.tensor([[1.0, -2.0], [0.5, -0.25]], dtype=dtype)
    assert sum_and_squares(numbers) == (-0.75, 5.3125)
    assert sum_and_squares(numbers.T) == (-0.75, 5.3125)
    assert sum_and_squares(numbers[:, 0]) == (1.5, 1.25)
    assert sum_and_squares(numbers[:0]) == (0.0, 0.0)
    assert sum_and_squares(torch.nn.Parameter(numbers)) == (-0.75, 5.3125)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_of_many_numbers_are_taken_in_float64(dtype: torch.dtype) -> None:
    numbers = (torch.randn(1000, 777, generator=torch.Generator().manual_seed(0)) / 30).to(dtype)
    exact = numbers.double()
    total, squares = sum_and_squares(numbers)
    assert total == pytest.approx(float(exact.sum()), abs=1e-10)
    assert squares == pytest.approx(float((exact * exact).sum()), rel=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_of_what_is_not_finite_are_not_finite(dtype: torch.dtype) -> None:
    for broken in (math.nan, math.inf):
        numbers = torch.ones(100, dtype=dtype)
        numbers[63] = broken
        assert not any(map(math.isfinite, sum_and_squares(numbers)))
