"""Ranks that share a policy of ZeRO 3 export and save it with one whole weight at a time."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor

from actors.training import export
from actors.training.deepspeed_engine import DeepSpeedEngine
from configs.schema.data import PromptConfig
from configs.schema.learner import LearnerConfig
from configs.schema.policy import PolicyConfig
from models.inputs.encoder import InputEncoder
from models.policy import checkpoint_weights as checkpoint_weights_module
from models.policy.checkpoint_weights import checkpoint_weights
from models.policy.loading import build_policy, load_learning_model, load_model
from tests.full_disk import files_of_at_most
from tests.ray.actors.training.host_memory import (
    LAYERS,
    MIB,
    RANKS,
    Peak,
    anonymous,
    ranks_say,
    write_policy,
)

pytestmark = pytest.mark.slow

LEARNER = LearnerConfig(ranks=RANKS, zero_stage=3)
ROWS = 2**16
"""Elements of merged weights at a time."""
LORA = {"train": ["language"], "lora": {"rank": 4}}


def _config(folder: Path, fields: dict[str, Any]) -> PolicyConfig:
    return PolicyConfig.model_validate({"path": str(folder)} | fields)


def _engine(folder: Path, fields: dict[str, Any]) -> tuple[DeepSpeedEngine, InputEncoder]:
    config = _config(folder, fields)
    encoder = InputEncoder(folder, PromptConfig(), trust_remote_code=False)
    policy = build_policy(
        load_model(config, folder, as_saved=True), config, encoder, learner=LEARNER
    )
    _move_adapters(policy.model)
    return DeepSpeedEngine(policy, LEARNER, "bfloat16", total_steps=1), encoder


def _move_adapters(model: Any) -> None:
    """Fresh ones change nothing."""
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            parameter.data.copy_(torch.linspace(-0.05, 0.05, parameter.numel()).view_as(parameter))


def _written(folder: Path, out: Path, fields: dict[str, Any]) -> dict[str, int]:
    """Bytes of this rank's shard, and those that an export and a checkpoint took on top."""
    engine, encoder = _engine(folder, fields)
    share = sum(p.ds_tensor.nbytes for p in engine.policy.parameters())
    found = {"share": share}
    works = {
        "export": lambda: export.export_policy(engine, encoder, folder, out / "export"),
        "save": lambda: engine.save(out / "save"),
        "restore": lambda: engine.restore(out / "save"),
    }
    for name, work in works.items():
        dist.barrier()
        before, peak = anonymous(), Peak()
        work()
        found[name] = peak.end() - before
    states = (out / "save").rglob(f"*rank_{dist.get_rank()}_*")
    found["state"] = sum(file.stat().st_size for file in states)
    found["refused"] = _refused(engine, encoder, folder, out / "no_room")
    engine.close()
    return found


def _refused(engine: DeepSpeedEngine, encoder: InputEncoder, folder: Path, out: Path) -> bool:
    """Whether this rank's disk, which has no room on rank 0, refused an export."""
    try:
        with files_of_at_most(20 * MIB if dist.get_rank() == 0 else -1):
            export.export_policy(engine, encoder, folder, out)
    except OSError:
        return True
    return False


def _both(folder: Path) -> list[dict[str, int]]:
    export.SHARD_BYTES = 30 * 10**6  # of this process, a rank's
    checkpoint_weights_module.MERGED_AT_A_TIME = ROWS
    _written(folder / "small", folder / "first", LORA)  # what is set up at the first time
    return [
        _written(folder / "large", folder / "whole", {}),
        _written(folder / "large", folder / "adapted", LORA),
    ]


def _read(folder: Path) -> dict[str, Tensor]:
    return {n: t for file in folder.glob("*.safetensors") for n, t in load_file(file).items()}


def test_export_and_checkpoint_take_memory_for_one_weight_and_are_the_policy_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_weights_module, "MERGED_AT_A_TIME", ROWS)
    write_policy(tmp_path / "small", layers=1)
    write_policy(tmp_path / "large", layers=LAYERS)
    told = ranks_say(tmp_path, partial(_both, tmp_path))

    assert sum(whole["share"] for whole, _ in told) > LAYERS * 4e6 * 2
    for found in (found for rank in told for found in rank):
        assert found["export"] <= 0.3 * found["share"] + 2 * MIB
        assert found["save"] <= 0.3 * found["share"] + 2 * MIB
        assert found["restore"] <= 1.1 * found["state"] + 2 * MIB
    for own in zip(*told, strict=True):  # and nobody waits for a rank that cannot write
        assert [found["refused"] for found in own] == [True, False, False, False]

    for name, fields in (("whole", {}), ("adapted", LORA)):
        exported = tmp_path / name / "export"
        assert len(list(exported.glob("model-*-of-00004.safetensors"))) == 4
        start = load_learning_model(_config(tmp_path / "large", fields), tmp_path / "large")
        _move_adapters(start)
        expected = {n: weight.merged() for n, weight in checkpoint_weights(start).items()}
        written = _read(exported)
        assert written.keys() == expected.keys()
        assert all(torch.equal(written[n], expected[n]) for n in expected)
        again = load_model(_config(exported, {}), exported)
        assert all(torch.equal(p, expected[n]) for n, p in again.named_parameters())
    assert _read(tmp_path / "adapted" / "export" / "adapter")
