"""FLOPs of a training step: by hand, and as torch counts its own multiplications."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from configs.schema.policy import PolicyConfig
from models.inputs.packing import pack
from models.policy.flops import TrainingFlops, peak_flops
from models.policy.loading import load_learning_model
from models.tiny.model import build_tiny_text
from rl.algorithms.rows import TrainingAnswer, TrainingRow
from rl.data.records import Problem
from tests.families import FAMILIES

# A prompt of 3, and answers of 3 and 2 whose last tokens predict nothing: 3 + 2 + 1 are read.
ROW = TrainingRow(
    Problem("p", "?", ("1",)),
    (5, 6, 7),
    (TrainingAnswer(0, (8, 9, 10)), TrainingAnswer(1, (8, 11))),
)
TOKENS, OUTPUTS = 6, 5
PAIRS = (1 + 2 + 3) + (4 + 5) + 4
"""Tokens that each token looks at: itself, its answer's before it, and the prompt."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    build_tiny_text(folder, seed=3)
    return folder


@pytest.fixture
def model(folder: Path) -> Any:
    config = PolicyConfig(path=str(folder), dtype="float32", train=("language",))
    return load_learning_model(config, folder)


def by_hand(model: Any, of_each: int) -> int:
    text = model.config
    linears = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
    body = sum(m.weight.numel() for m in linears if m is not model.lm_head)
    head = text.hidden_size * text.vocab_size
    attention = 12 * text.num_hidden_layers * text.hidden_size
    return of_each * (TOKENS * body + OUTPUTS * head) + PAIRS * attention


def test_a_weight_that_learns_costs_six_flops_a_token_and_a_frozen_one_four(model: Any) -> None:
    batch = pack((ROW,), pad_id=0)
    assert TrainingFlops(model)(batch) == (TOKENS, by_hand(model, 6))
    model.requires_grad_(False)
    assert TrainingFlops(model)(batch) == (TOKENS, by_hand(model, 4))


def test_padding_and_how_rows_are_batched_change_nothing(model: Any) -> None:
    flops = TrainingFlops(model)
    longer = TrainingRow(ROW.problem, (5,) * 9, (TrainingAnswer(2, (8,) * 20),))
    alone = [flops(pack((row,), pad_id=0)) for row in (ROW, longer)]
    together = flops(pack((ROW, longer), pad_id=0))
    assert together == tuple(map(sum, zip(*alone, strict=True)))


def test_torch_counts_the_same_multiplications(model: Any) -> None:
    """In the layers, where the first one's input learns, too."""
    batch = pack((ROW,), pad_id=0)
    with FlopCounterMode(display=False) as counter:
        hidden_BTH = model.model(batch.input_ids, attention_mask=batch.attention_mask)[0]
        hidden_BTH.sum().backward()
    counted = counter.get_flop_counts()["Global"]
    linear = counted[torch.ops.aten.mm] + counted[torch.ops.aten.addmm]
    layers = [m for m in model.model.modules() if isinstance(m, torch.nn.Linear)]
    assert linear == 6 * TOKENS * sum(m.weight.numel() for m in layers)


def test_of_a_layer_s_experts_those_count_that_a_token_goes_to(tmp_path: Path) -> None:
    FAMILIES["qwen3-moe"](tmp_path)
    config = PolicyConfig(path=str(tmp_path), dtype="float32", train=("language",))
    mixture = load_learning_model(config, tmp_path)
    text = mixture.config
    experts = 3 * text.num_experts_per_tok * text.moe_intermediate_size
    routed = text.num_hidden_layers * text.hidden_size * (experts + text.num_experts)
    expected = by_hand(mixture, 6) + 6 * TOKENS * routed
    assert TrainingFlops(mixture)(pack((ROW,), pad_id=0)) == (TOKENS, expected)


def test_the_recipe_s_peak_counts_before_what_is_known_of_a_device() -> None:
    assert peak_flops(0.5, "float32") == 5e11
    if not torch.cuda.is_available():
        assert peak_flops(None, "bfloat16") is None
