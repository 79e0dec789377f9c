"""The 0.8-million-parameter models and the pretraining of their parts."""
