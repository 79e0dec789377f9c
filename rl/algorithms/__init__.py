"""The training loops and what they decide; no Ray, no files."""
