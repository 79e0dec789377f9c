"""The policy on disk in Hugging Face layout, as transformers and vLLM load it."""

import shutil
from contextlib import nullcontext
from pathlib import Path

import torch.distributed as dist

from actors.training.deepspeed_engine import DeepSpeedEngine
from models.inputs.encoder import InputEncoder
from models.policy.export_check import mend_generation_config
from models.policy.features import FrozenTower
from models.policy.lora import save_adapters


def export_policy(
    engine: DeepSpeedEngine,
    encoder: InputEncoder,
    source: str | Path,
    folder: Path,
    tower: FrozenTower | None = None,
) -> None:
    """Write weights, processor and the source's own code to `folder` on rank 0.

    Called on every rank. `tower`: what was taken out of the policy, to be saved with it. Where
    adapters learn, they are merged into the weights, and lie by themselves in `adapter`.
    """
    weights = engine.gather_on_first_rank()
    adapters = engine.adapters_on_first_rank()
    if dist.get_rank() != 0:
        return
    weights |= tower.weights() if tower else {}
    if (generation := getattr(engine.policy.model, "generation_config", None)) is not None:
        mend_generation_config(generation)
    with tower.attached() if tower else nullcontext():
        engine.policy.model.save_pretrained(folder, state_dict=weights)
    (encoder.processor or encoder.tokenizer).save_pretrained(folder)
    if adapters:
        save_adapters(engine.policy.model, adapters, folder / "adapter", str(source))
    if Path(source).is_dir():
        for file in Path(source).glob("*.py"):
            shutil.copy(file, folder)
