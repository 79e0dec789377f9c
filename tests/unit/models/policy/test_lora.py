"""Adapters: what learns, and that what engines and checkpoints get means the same."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import save_file

from configs.schema.data import PromptConfig
from configs.schema.policy import LoraConfig, PolicyConfig
from configs.schema.rollout import EngineConfig, engine_dtype
from models.inputs.encoder import InputEncoder
from models.inputs.packing import pack
from models.policy.checkpoint_weights import (
    CheckpointWeight,
    checkpoint_weights,
    saved_adapters,
)
from models.policy.loading import load_learning_model, load_model
from models.policy.lora import ADAPTER_FILE, is_adapter, save_adapter_config
from models.policy.parts import part_of
from models.policy.policy import Policy
from models.tiny.model import build_tiny_text, build_tiny_vlm
from rl.algorithms.rows import TrainingAnswer, TrainingRow
from rl.data.records import Problem
from tests.unit.step_samples import png

PROBLEM = Problem("p", "How many?", ("1",), (png(56, 56),))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vlm")
    build_tiny_vlm(folder, seed=3)
    return folder


def config(folder: Path, train: Sequence[str] = ("language",), **lora: Any) -> PolicyConfig:
    fields = {"path": str(folder), "dtype": "float32", "train": train}
    return PolicyConfig.model_validate(fields | {"lora": {"rank": 2, "alpha": 8} | lora})


def learned(folder: Path, **changes: Any) -> Any:
    """A model whose adapters have learned something."""
    model = load_learning_model(config(folder, **changes), folder)
    chance = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if is_adapter(name):
            parameter.data.normal_(std=0.05, generator=chance)
    return model


def logprobs(model: Any, folder: Path) -> torch.Tensor:
    encoder = InputEncoder(folder, PromptConfig(), trust_remote_code=False)
    policy = Policy(model, encoder, chunk=64)
    answer = TrainingAnswer(0, (40, 51, 62, 73))
    row = TrainingRow(PROBLEM, encoder.encode(PROBLEM), (answer,))
    with torch.no_grad():
        return policy(pack((row,), encoder.pad_id, encoder.pixels([PROBLEM])))[0]


def test_merging_by_hand() -> None:
    weight = CheckpointWeight(
        parameter=torch.nn.Parameter(torch.tensor([[1.0, 2.0], [3.0, 4.0]])),
        down=torch.nn.Parameter(torch.tensor([[1.0, -1.0]])),
        up=torch.nn.Parameter(torch.tensor([[2.0], [0.5]])),
        scale=3.0,
    )
    assert weight.merged().tolist() == [[7.0, -4.0], [4.5, 2.5]]
    assert not weight.merged().requires_grad


def test_a_change_too_small_for_bfloat16_is_merged_whole_in_float32() -> None:
    weight = CheckpointWeight(  # neighbours of 1 in bfloat16: 1 - 2**-8 and 1 + 2**-7
        parameter=torch.nn.Parameter(torch.tensor([[1.0]], dtype=torch.bfloat16)),
        down=torch.nn.Parameter(torch.tensor([[2.0**-10]], dtype=torch.bfloat16)),
        up=torch.nn.Parameter(torch.tensor([[1.0]], dtype=torch.bfloat16)),
        scale=2.0,
    )
    assert weight.merged().item() == 1.0
    assert weight.merged().dtype == torch.bfloat16
    assert weight.merged(torch.float32).item() == 1.0 + 2.0**-9
    plain = CheckpointWeight(parameter=weight.parameter)
    assert plain.merged(torch.float32).dtype == torch.bfloat16, "what has no adapter stays as it is"


@pytest.mark.parametrize(
    ("dtype", "lora", "said", "expected"),
    [
        ("bfloat16", {"rank": 2}, None, "float32"),
        ("bfloat16", {"rank": 2}, "bfloat16", "bfloat16"),
        ("bfloat16", None, None, "bfloat16"),
        ("float32", None, None, "float32"),
        ("float32", None, "bfloat16", "bfloat16"),
    ],
)
def test_engines_hold_float32_where_adapters_learn_unless_the_recipe_says_otherwise(
    dtype: str, lora: dict[str, int] | None, said: Any, expected: str
) -> None:
    policy = PolicyConfig.model_validate({"path": "m", "dtype": dtype, "lora": lora})
    assert engine_dtype(policy, EngineConfig(dtype=said)) == expected


def test_adapters_beside_an_export_are_read_by_peft(folder: Path, tmp_path: Path) -> None:
    model = learned(folder)
    save_adapter_config(model, tmp_path / "adapter", str(folder))
    tensors = {n: t for group in saved_adapters(model) for n, t in group.made().items()}
    save_file(tensors, tmp_path / "adapter" / ADAPTER_FILE)
    read = PeftModel.from_pretrained(load_model(config(folder), folder), tmp_path / "adapter")
    expected = logprobs(model, folder)
    torch.testing.assert_close(logprobs(read.base_model.model, folder), expected)
    assert read.peft_config["default"].base_model_name_or_path == str(folder)


def test_fresh_adapters_change_nothing_and_are_the_same_for_every_rank(folder: Path) -> None:
    random = torch.get_rng_state()
    one, other = (load_learning_model(config(folder), folder) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), random)
    for (name, first), (_, second) in zip(
        one.named_parameters(), other.named_parameters(), strict=True
    ):
        assert torch.equal(first, second), name
    plain = dict(load_model(config(folder), folder).named_parameters())
    weights = checkpoint_weights(one)
    assert weights.keys() == plain.keys()
    assert all(torch.equal(weights[name].merged(), plain[name]) for name in plain)


def test_merged_weights_say_what_the_adapters_say(folder: Path, tmp_path: Path) -> None:
    model = learned(folder)
    merged = {name: weight.merged() for name, weight in checkpoint_weights(model).items()}
    model.save_pretrained(tmp_path, state_dict=merged)
    read = load_model(config(folder), tmp_path)  # knows nothing of adapters
    found, plain = logprobs(read, folder), logprobs(load_model(config(folder), folder), folder)
    torch.testing.assert_close(found, logprobs(model, folder), atol=1e-5, rtol=0)
    assert (found - plain).abs().max() > 1e-2


def test_a_language_model_with_adapters_learns_by_them_alone(folder: Path) -> None:
    model = load_learning_model(config(folder, ("projector", "language")), folder)
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    projector = {name for name, _ in model.named_parameters() if part_of(name) == "projector"}
    assert {name for name in learning if not is_adapter(name)} == projector != set()
    sent = {name for name, weight in checkpoint_weights(model).items() if weight.learns} - projector
    layers = {name.split(".layers.")[1] for name in sent}
    assert len(layers) == len(sent) == 3 * 7  # 3 layers of 4 attention and 3 MLP matrices
    assert all("language_model" in name and name.endswith("proj.weight") for name in sent)


def test_targets_choose_the_layers(folder: Path) -> None:
    model = load_learning_model(config(folder, targets=["v_proj", "up_proj"]), folder)
    adapted = {name for name, w in checkpoint_weights(model).items() if w.down is not None}
    assert {name.split(".")[-2] for name in adapted} == {"v_proj", "up_proj"}
    assert not any(part_of(name) == "vision" for name in adapted), "the tower has a v_proj too"


@pytest.mark.parametrize("targets", [["q_proj", "qq_proj"], ["lm_head"], ["projection_layer"], []])
def test_targets_that_the_language_model_lacks_are_refused(
    folder: Path, targets: list[str]
) -> None:
    with pytest.raises(ValueError, match=r"policy\.lora\.targets=.* there are \['down_proj', "):
        load_learning_model(config(folder, targets=targets), folder)


def test_a_text_only_policy_takes_adapters_too(tmp_path: Path) -> None:
    build_tiny_text(tmp_path, seed=0)
    model = load_learning_model(config(tmp_path), tmp_path)
    assert sum(weight.learns for weight in checkpoint_weights(model).values()) == 3 * 7


def test_adapters_of_a_language_model_that_does_not_learn_are_refused() -> None:
    with pytest.raises(ValueError, match=r"lora is set, but train=\['projector'\]"):
        PolicyConfig(path="-", train=("projector",), lora=LoraConfig())
