"""What keeps a policy from being saved is found before the first step."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import GenerationConfig

from configs.schema.data import PromptConfig
from configs.schema.policy import ModelConfig
from models.inputs.encoder import InputEncoder
from models.policy.export_check import check_export, mend_generation_config
from models.policy.loading import load_model
from rl.console.errors import UserError


def with_generation_config(vlm: Path, folder: Path, said: dict[str, Any] | None) -> Path:
    """The tiny policy with another generation config, or with none."""
    shutil.copytree(vlm, folder, dirs_exist_ok=True)
    file = folder / "generation_config.json"
    file.unlink()
    if said is not None:
        file.write_text(json.dumps(said), "utf-8")
    return folder


def check(folder: Path) -> None:
    check_export(folder, InputEncoder(folder, PromptConfig(), False), False)


@pytest.mark.parametrize("values", [{"temperature": 0.2, "top_p": 0.9}, {"top_k": 7}])
def test_sampling_values_that_are_switched_off_are_mended_and_said(
    values: dict[str, float], vlm: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = with_generation_config(vlm, tmp_path, {"do_sample": False, **values})
    with caplog.at_level(logging.WARNING):
        check(folder)
    assert "checkpoints will have do_sample=true" in caplog.text
    model = load_model(ModelConfig(path=str(folder)), folder)
    with pytest.raises(ValueError, match="GenerationConfig is invalid"):
        model.save_pretrained(tmp_path / "refused")
    mend_generation_config(model.generation_config)
    model.save_pretrained(tmp_path / "exported")
    saved = json.loads((tmp_path / "exported/generation_config.json").read_text("utf-8"))
    assert saved["do_sample"] is True
    assert {name: saved[name] for name in values} == values


@pytest.mark.parametrize("said", [None, {"temperature": 0.6, "do_sample": True}, {"num_beams": 1}])
def test_configs_that_can_be_saved_are_left_alone(
    said: dict[str, Any] | None, vlm: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        check(with_generation_config(vlm, tmp_path, said))
    assert "do_sample" not in caplog.text


def test_a_policy_that_cannot_be_saved_at_all_is_refused(vlm: Path, tmp_path: Path) -> None:
    said = {"num_return_sequences": 4, "num_beams": 2}  # more answers than beams
    folder = with_generation_config(vlm, tmp_path, said)
    with pytest.raises(UserError, match=r"can be read but not saved.*mend the files"):
        check(folder)


def test_a_config_in_order_is_not_touched() -> None:
    config = GenerationConfig(max_new_tokens=5)
    assert not mend_generation_config(config)
    assert config.do_sample is not True
