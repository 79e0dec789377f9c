"""The model that learns: loading, forward, attention, logprobs, adapters, weights."""
