"""Weights of every family go by the names in its checkpoint, and come back as they were."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from configs.schema.policy import PolicyConfig
from models.policy.checkpoint_weights import checkpoint_weights, saved_names
from models.policy.loading import freeze, load_model
from models.policy.parts import part_of
from tests.families import FAMILIES


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_are_sent_and_exported_by_the_names_that_they_were_read_by(
    family: str, tmp_path: Path
) -> None:
    folder, exported = tmp_path / "read", tmp_path / "exported"
    FAMILIES[family](folder)
    read = load_file(folder / "model.safetensors")
    model = load_model(PolicyConfig(path=str(folder), dtype="float32"), folder)
    weights = checkpoint_weights(model)
    names = saved_names(model, weights)
    assert set(names.values()) == set(read)
    assert all(torch.equal(weights[n].merged(), read[names[n]]) for n in weights)

    model.save_pretrained(exported, state_dict={n: w.merged() for n, w in weights.items()})
    written = load_file(exported / "model.safetensors")
    assert written.keys() == read.keys()
    assert all(torch.equal(written[name], read[name]) for name in read)


@pytest.mark.parametrize("family", FAMILIES)
def test_parts_are_told_apart_by_the_names_of_modules_and_of_checkpoints(
    family: str, tmp_path: Path
) -> None:
    FAMILIES[family](tmp_path)
    model = load_model(PolicyConfig(path=str(tmp_path), dtype="float32"), tmp_path)
    names = saved_names(model, checkpoint_weights(model))
    assert {name: part_of(name) for name in names} == {n: part_of(s) for n, s in names.items()}
    parts = {part_of(name) for name in names}
    has_vision = hasattr(model.config, "vision_config")
    assert parts == ({"vision", "projector", "language"} if has_vision else {"language"})
    freeze(model, ["language"])
    learning = sum(p.requires_grad for p in model.parameters())
    assert learning == sum(part_of(name) == "language" for name in names)
