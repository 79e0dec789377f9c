"""What tests mix into vLLM's worker classes in place of the project's own extension."""

from typing import Any

from actors.weight_transfer.readback import WeightReadback


class Deaf:
    """A model that hears new weights and keeps its own."""

    def load_weights(self, weights: Any) -> None:
        """Take them all, and do nothing."""
        for _ in weights:
            pass


class Probe(WeightReadback):
    """Can be made deaf to new weights."""

    weight_transfer_engine: Any

    def deafen(self) -> None:
        """Keep the weights of now, whatever comes."""
        transfer = self.weight_transfer_engine

        def receive(update: Any) -> None:
            transfer.model = Deaf()
            type(transfer).receive_weights(transfer, update)

        transfer.receive_weights = receive

    def hear(self) -> None:
        """Take weights again."""
        del self.weight_transfer_engine.receive_weights
