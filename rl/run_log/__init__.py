"""What a run records: metrics, samples, timing, summary, plots."""
