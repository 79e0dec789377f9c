"""Checkpoints put together, swapped and converted."""
