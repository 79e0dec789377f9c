"""The policy on disk in Hugging Face layout, as transformers and vLLM load it.

Weights are gathered, adapters merged, and files written one weight at a time: no rank needs memory
for more than its shard and one weight.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import Tensor

from actors.training.deepspeed_engine import DeepSpeedEngine
from models.assembly.shards import ShardFile, shard_files, stream_shards
from models.inputs.encoder import InputEncoder
from models.policy.checkpoint_weights import SavedWeights, saved_adapters, saved_weights
from models.policy.export_check import mend_generation_config
from models.policy.features import FrozenTower
from models.policy.lora import ADAPTER_FILE, save_adapter_config

SHARD_BYTES = 5 * 10**9
"""Of a file of weights; a larger weight has one of its own."""


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
    model = engine.policy.model
    with tower.attached() if tower else nullcontext():
        policy = _Weights.of_policy(model)
    adapters = _Weights.of_adapters(model)
    made = _made(engine, [*policy.in_order(), *adapters.in_order()])
    if dist.get_rank() != 0:
        for _ in made:
            pass
        return
    try:
        with tower.attached() if tower else nullcontext():
            _save_all_else(model, folder)
        (encoder.processor or encoder.tokenizer).save_pretrained(folder)
        if Path(source).is_dir():
            for file in Path(source).glob("*.py"):
                shutil.copy(file, folder)
        policy.write(folder, made)
        if adapters.groups:
            save_adapter_config(model, folder / "adapter", str(source))
            adapters.write(folder / "adapter", made)
    finally:
        for _ in made:  # where this rank cannot write, the others wait for it all the same
            pass


def _save_all_else(model: Any, folder: Path) -> None:
    """What transformers saves of a model beside its weights."""
    if (generation := getattr(model, "generation_config", None)) is not None:
        mend_generation_config(generation)
    model.save_pretrained(folder, state_dict={})


@dataclass(frozen=True, slots=True)
class _Weights:
    """Weights, and the files that they go to."""

    groups: Sequence[SavedWeights]
    files: Sequence[ShardFile]

    @classmethod
    def of_policy(cls, model: Any) -> "_Weights":
        groups = saved_weights(model)
        return cls(groups, shard_files(_plan(groups), SHARD_BYTES))

    @classmethod
    def of_adapters(cls, model: Any) -> "_Weights":
        groups = saved_adapters(model)
        return cls(groups, [ShardFile(ADAPTER_FILE, list(_plan(groups)))])

    def in_order(self) -> list[SavedWeights]:
        """The groups as they are needed one after another."""
        of = {name: i for i, group in enumerate(self.groups) for name in group.saved}
        needed = dict.fromkeys(of[name] for file in self.files for name in file.tensors)
        return [self.groups[i] for i in needed]

    def write(self, folder: Path, made: Iterator[dict[str, Tensor]]) -> None:
        """Write what comes of `made`, group by group."""
        stream_shards(folder, _plan(self.groups), self.files, self._one_by_one(made))

    def _one_by_one(self, made: Iterator[dict[str, Tensor]]) -> Iterator[Tensor]:
        there: dict[str, Tensor] = {}
        for name in (name for file in self.files for name in file.tensors):
            while name not in there:
                there |= next(made)
            yield there.pop(name)


def _plan(groups: Sequence[SavedWeights]) -> dict[str, Tensor]:
    return {name: tensor for group in groups for name, tensor in group.saved.items()}


def _made(engine: DeepSpeedEngine, groups: Sequence[SavedWeights]) -> Iterator[dict[str, Tensor]]:
    """Each group's tensors on rank 0's host, nothing on others. A collective at ZeRO 3, in which
    rank 0 takes part to its end where it cannot make one: the others would wait for it."""
    fault: Exception | None = None
    for group in groups:
        made: dict[str, Tensor] = {}
        with engine.gathered(group.sources):
            if dist.get_rank() == 0 and fault is None:
                try:
                    made = group.made()
                except Exception as error:  # no memory for a copy, for one
                    fault = error
        if fault is None:
            yield made
    if fault is not None:
        raise fault
