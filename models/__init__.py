"""Policies: inputs, logprobs, checkpoints and the laptop model."""
