"""Chats in samples.jsonl: what was learned, and how likely the policy found it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rl.jsonl import finite
from rl.records import Chat
from rl.run_log import KeepImages


@dataclass(frozen=True, slots=True)
class LoggedChat:
    """A chat with what the policy made of it, each token given the true ones before it."""

    chat: Chat
    tokens: int
    """Images included."""
    trained_tokens: int
    loss: float
    """Mean of the trained tokens, nats."""
    least_likely: tuple[tuple[str, float], ...]
    """The trained tokens that surprised the policy most, with their probabilities."""

    def lines(self, keep: KeepImages) -> Iterator[dict[str, Any]]:
        """One line."""
        yield {
            "chat": self.chat.id,
            "turns": [{"role": turn.role, "text": turn.text} for turn in self.chat.turns],
            "images": keep(self.chat.images),
            "tokens": self.tokens,
            "trained_tokens": self.trained_tokens,
            "loss": finite(self.loss),
            "least_likely": [
                {"token": token, "probability": finite(probability)}
                for token, probability in self.least_likely
            ],
        }
