"""What tests mix into vLLM's worker classes in place of the project's own extension."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from vllm.model_executor.model_loader.reload import (
    finalize_layerwise_reload,
    initialize_layerwise_reload,
)

from actors.weight_transfer.readback import WeightReadback


class Deaf:
    """A model that hears new weights and keeps its own."""

    def load_weights(self, weights: Any) -> None:
        """Take them all, and do nothing."""
        for _ in weights:
            pass


class Probe(WeightReadback):
    """Can be made deaf to new weights, and to take and to lose them as engines on GPUs do."""

    weight_transfer_engine: Any
    model_config: Any
    slept: list[int]
    """Levels of sleep so far."""

    tower_calls: int
    """Passes of the vision tower since `count_tower_calls`."""

    def count_tower_calls(self) -> None:
        """From now on count the passes of the vision tower."""
        self.tower_calls = 0
        tower: nn.Module = self.model_runner.get_model().vision_tower

        def count(*_: Any) -> None:
            self.tower_calls += 1

        tower.register_forward_pre_hook(count)

    def counted_tower_calls(self) -> int:
        """Those since `count_tower_calls`."""
        return self.tower_calls

    def deafen(self) -> None:
        """Keep the weights of now, whatever comes."""
        transfer = self.weight_transfer_engine

        def receive(update: Any) -> None:
            transfer.model = Deaf()
            type(transfer).receive_weights(transfer, update)

        transfer.receive_weights = receive

    def reload_by_layers(self) -> None:
        """From now on make parameters anew for what comes, as vLLM's nccl and ipc engines do.

        What comes is held until its layer is whole, so each buffer is of its own, as theirs are.
        """
        transfer = self.weight_transfer_engine
        load = transfer.model.load_weights
        transfer.model.load_weights = lambda weights: load((n, t.clone()) for n, t in weights)

        def finish() -> None:
            finalize_layerwise_reload(transfer.model, self.model_config)

        transfer.start_weight_update = partial(initialize_layerwise_reload, transfer.model)
        transfer.finish_weight_update = finish

    def sleep_as_on_gpus(self) -> None:
        """From now on lose, asleep, what is lost on GPUs: all but buffers at level 2, and at level
        1 nothing that is of weights. vLLM's CPU worker does nothing when it is told to sleep; what
        its engine does around that, on any device, stays."""
        kept: dict[str, Tensor] = {}
        self.slept = []

        @torch.no_grad()
        def sleep(level: int = 1) -> None:
            self.slept.append(level)
            for name, weight in self._weights():
                if level == 1:
                    kept[name] = weight.clone()
                weight.fill_(torch.nan)

        @torch.no_grad()
        def wake_up(tags: list[str] | None = None) -> None:
            for name, weight in self._weights():
                if name in kept and (tags is None or "weights" in tags):
                    weight.copy_(kept.pop(name))

        own: Any = self
        own.sleep, own.wake_up = sleep, wake_up

    def _weights(self) -> list[tuple[str, nn.Parameter]]:
        return list(self.model_runner.get_model().named_parameters())

    def levels_slept(self) -> list[int]:
        """Those since `sleep_as_on_gpus`."""
        return self.slept

    def hear(self) -> None:
        """Take weights again."""
        del self.weight_transfer_engine.receive_weights
