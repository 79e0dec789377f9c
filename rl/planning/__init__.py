"""Whether a run fits its machine, and the nearest change that would."""
