"""Ranks that share rows: each has a part of the tokens, and of the heads while they attend."""
