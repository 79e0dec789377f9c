"""What tests mix into vLLM's worker classes in place of the project's own extension."""

from functools import partial
from typing import Any

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
    """Can be made deaf to new weights, and to take them as engines on GPUs do."""

    weight_transfer_engine: Any
    model_config: Any

    def deafen(self) -> None:
        """Keep the weights of now, whatever comes."""
        transfer = self.weight_transfer_engine

        def receive(update: Any) -> None:
            transfer.model = Deaf()
            type(transfer).receive_weights(transfer, update)

        transfer.receive_weights = receive

    def reload_by_layers(self) -> None:
        """From now on make parameters anew for what comes, as vLLM's nccl and ipc engines do."""
        transfer = self.weight_transfer_engine

        def finish() -> None:
            finalize_layerwise_reload(transfer.model, self.model_config)

        transfer.start_weight_update = partial(initialize_layerwise_reload, transfer.model)
        transfer.finish_weight_update = finish

    def hear(self) -> None:
        """Take weights again."""
        del self.weight_transfer_engine.receive_weights
