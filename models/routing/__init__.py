"""Mixtures of experts: which tokens go to whom."""
