"""R1V's path in miniature, for a laptop: parts, alignment, swap, fine-tuning, start policy."""
