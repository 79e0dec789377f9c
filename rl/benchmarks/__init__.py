"""Benchmarks: published problem sets, a model's figures on them, and two runs compared."""
