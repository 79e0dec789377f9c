"""Weights from learner to engines: rendezvous, transport, read-back."""
