"""Reward workers, and frozen policies: the reference, a teacher."""
