"""Models that are asked for a verdict over the network."""
