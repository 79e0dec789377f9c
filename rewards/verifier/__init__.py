"""A pool of verifier processes that are killed at their deadline."""
